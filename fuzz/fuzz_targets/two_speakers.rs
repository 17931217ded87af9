#![no_main]

use ferrolb_fuzz::bodies::two_speakers::two_speakers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| two_speakers(data));
