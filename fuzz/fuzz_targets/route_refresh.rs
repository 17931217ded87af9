#![no_main]

use ferrolb_fuzz::bodies::machines::route_refresh;

libfuzzer_sys::fuzz_target!(|data: &[u8]| route_refresh(data));
