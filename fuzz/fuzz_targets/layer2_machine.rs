#![no_main]

use ferrolb_fuzz::layer2::machine::layer2_machine;

libfuzzer_sys::fuzz_target!(|data: &[u8]| layer2_machine(data));
