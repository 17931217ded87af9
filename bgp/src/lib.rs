//! BGP-4 for programs that announce routes.
