#![no_main]

use ferrolb_fuzz::layer2::codec::arp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| arp(data));
