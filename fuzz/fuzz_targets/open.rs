#![no_main]

use ferrolb_fuzz::bodies::codec::open;

libfuzzer_sys::fuzz_target!(|data: &[u8]| open(data));
