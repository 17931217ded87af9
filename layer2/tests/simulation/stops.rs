//! A process that was stopped, or whose frames the kernel refuses.

use std::net::{IpAddr, Ipv4Addr};

use ferrolb_layer2::mac::Mac;
use ferrolb_layer2::machine::Input;

use crate::arp;
use crate::world::{World, addresses, ms};

#[test]
fn what_was_answered_before_a_stop_of_the_process_is_not_sent_after_it() {
    for (stop, answers) in [(0, 1), (2_000, 0)] {
        let mut world = World::cluster(1, 2, &addresses(2));
        world.run(ms(3_000));
        let now = world.now;
        let address = *world.nodes[0].announced.first().unwrap();
        let IpAddr::V4(target) = address else {
            panic!("{address}");
        };
        let client = Mac([2, 0xff, 0, 0, 0, 9]);
        let request = arp::new_request(client, Ipv4Addr::new(10, 0, 0, 250), target);
        let interface = world.nodes[0].interfaces[0].1.index;
        let machine = &mut world.nodes[0].machine;
        machine.handle(now, Input::Frame(interface, &request));
        // The driver does so before it sends.
        machine.handle_timeout(now + ms(stop));
        let frames = std::iter::from_fn(|| machine.next_frame());
        let sent = frames.filter(|(_, frame)| frame[12..14] == [8, 6]).count();
        assert_eq!(sent, answers, "{stop} ms");
    }
}

#[test]
fn a_node_whose_hellos_the_kernel_refuses_is_stalled() {
    for refuses in [false, true] {
        let mut world = World::cluster(1, 2, &addresses(2));
        world.run(ms(3_000));
        let mut now = world.now;
        let machine = &mut world.nodes[0].machine;
        let before = machine.status(now).counters.stalls;
        for _ in 0..50 {
            now += ms(10);
            machine.handle_timeout(now);
            while let Some((interface, frame)) = machine.next_frame() {
                if refuses {
                    machine.frame_refused(interface, &frame);
                }
            }
        }
        assert_eq!(machine.status(now).counters.stalls > before, refuses);
    }
}
