//! The plugins that are built into the binary.

use nix::libc;

use super::error::Kind;

/// A component that is part of the host. Its own identity counts; `name` and `kind` are for messages before it is
/// loaded.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Name of the plugin.
    pub name: &'static str,
    /// Kind of the plugin.
    pub kind: Kind,
    /// The component.
    pub component: &'static [u8],
    /// Its machine code, compiled by the build script; empty if there is none for this target.
    pub code: &'static [u8],
}

/// All bundled plugins, as the build script has built them. Not a `const`, of which each use could have a copy.
pub static BUNDLED: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundled_plugins.rs"));

/// Returns the memory of all components and their code to the kernel: a loaded plugin has copies of what it needs. On the next
/// use, the kernel reads them from the binary again.
pub(super) fn release_memory() {
    let Some(page) = usize::try_from(page_size()).ok().filter(|page| page.is_power_of_two()) else { return };
    for bytes in BUNDLED.iter().flat_map(|plugin| [plugin.component, plugin.code]) {
        // Only whole pages: other data is on the first and the last one.
        let pages = bytes.get(bytes.as_ptr().align_offset(page)..).unwrap_or_default();
        let length = pages.len() / page * page;
        if length == 0 {
            continue;
        }
        // SAFETY: the pages are within constants of this program. Nothing has written to them, so their content is that of
        // the file from which the program is mapped; a packer that unpacks a program into other memory does not fit.
        let advised = unsafe { libc::madvise(pages.as_ptr().cast_mut().cast(), length, libc::MADV_DONTNEED) };
        if advised != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "memory of a bundled plugin is not released");
        }
    }
}

fn page_size() -> libc::c_long {
    // SAFETY: it has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_and_code_are_unchanged_after_their_memory_was_released() {
        let copies = || BUNDLED.iter().map(|plugin| (plugin.component.to_vec(), plugin.code.to_vec()));
        let before: Vec<_> = copies().collect();
        release_memory();
        assert!(copies().eq(before));
    }
}
