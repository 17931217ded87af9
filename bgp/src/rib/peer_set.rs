//! Part of the Adj-RIB-Out.
