#![no_main]

use ferrolb_fuzz::layer2::ndp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ndp(data));
