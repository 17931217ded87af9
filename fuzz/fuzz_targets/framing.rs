#![no_main]

use ferrolb_fuzz::bodies::codec::framing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| framing(data));
