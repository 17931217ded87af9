#![no_main]

use ferrolb_fuzz::bodies::machines::bfd_packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bfd_packet(data));
