//! The state machine of the whole speaker, without I/O.
