//! Files and folders of a single user, through which the programs of that user find each other.
//!
//! The host stores secrets, and runs programs that its files name. So it uses a file only if no other user can write it:
//!
//! - [`create_private_dir`] makes a folder with mode 0700 and refuses one that another user owns.
//! - [`secret_file`] makes a file with mode 0600 with a key or a token, atomically, and rejects one that others can
//!   read.
//! - [`ownership`] checks the whole path of a file that decides what runs (configuration, plugins, programs): the file,
//!   every folder above it, and every link on the way.
//! - [`DataLock`] ensures that only one host at a time uses a data folder. [`Holder`] describes that host in the lock
//!   file, for programs that cannot connect to it yet.
//! - [`SocketAddress`] gives a unix socket an address, however long its path is.

mod folders;
mod lock;
pub mod ownership;
pub mod secret_file;
mod socket;

#[cfg(test)]
mod lock_tests;

pub use folders::{FolderError, check_private_dir, create_private_dir};
pub use lock::{DataLock, Holder, LockError};
pub use socket::{MAX_SOCKET_PATH, SocketAddress};
