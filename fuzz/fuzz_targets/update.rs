#![no_main]

use ferrolb_fuzz::bodies::codec::update;

libfuzzer_sys::fuzz_target!(|data: &[u8]| update(data));
