//! An Ostler plugin.
