#![no_main]

use ferrolb_fuzz::layer2::codec::hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hello(data));
