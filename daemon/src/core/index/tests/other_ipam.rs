//! Addresses that another program allocates.

use super::*;
use crate::core::decide::layer2::addresses::Layer2Addresses;

#[test]
fn an_address_that_another_program_wrote_is_announced_if_a_pool_has_it() {
    let mut index = index(initial());
    let quiet = json!({ "spec": { "addresses": ["198.51.100.0/28"], "autoAssign": false } });
    index.apply(object(Kind::IpAddressPool, "quiet", quiet));
    index.apply(layer2_advertisement("lan", json!({}), false));
    // No annotation says that an allocator of MetalLB or ferrolb assigned it.
    index.apply(service("service-0", "Cluster", "198.51.100.1"));
    assert_eq!(
        routes(&index),
        ["peer-0 198.51.100.1/32", "peer-1 198.51.100.1/32"]
    );
    let mut layer2 = Layer2Addresses::new(NODE);
    layer2.update_all(&index);
    let announced: Vec<String> = layer2.addresses().keys().map(ToString::to_string).collect();
    assert_eq!(announced, ["198.51.100.1"]);
    // The other program moves it out of all pools.
    index.apply(service("service-0", "Cluster", "203.0.113.1"));
    assert_eq!(routes(&index), Vec::<String>::new());
}
