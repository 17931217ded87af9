#![no_main]

use ferrolb_fuzz::bodies::codec::notification;

libfuzzer_sys::fuzz_target!(|data: &[u8]| notification(data));
