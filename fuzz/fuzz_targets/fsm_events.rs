#![no_main]

use ferrolb_fuzz::bodies::machines::fsm_events;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fsm_events(data));
