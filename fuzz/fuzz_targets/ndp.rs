#![no_main]

use ferrolb_fuzz::layer2::codec::ndp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ndp(data));
