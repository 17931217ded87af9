//! Compiles the L2Advertisements of both API groups.

use std::collections::BTreeMap;

use super::{Config, ConfigObjects, both_groups, layer2_advertisement};
use crate::core::api::Kind;
use crate::core::api::ferrolb::FerrolbL2AdvertisementSpec;
use crate::core::api::metallb::L2AdvertisementSpec;

impl ConfigObjects {
    pub(super) fn compile_layer2_advertisements(&mut self, config: &mut Config) {
        let mut good = BTreeMap::new();
        for (key, raw) in self.of_both_groups(Kind::L2Advertisement) {
            let spec = both_groups::spec::<L2AdvertisementSpec, FerrolbL2AdvertisementSpec>(
                raw, key, config,
            );
            let parsed = spec.check(|(spec, ferrolb)| {
                let mut ad = layer2_advertisement::parse(key, &spec, ferrolb.as_ref())?;
                ad.selection.unselectable = self.unselectable(key, &config.sources);
                let other = config.layer2_advertisements.get(&ad.name);
                both_groups::check_name(other.map(|other| &other.object)).map(|()| ad)
            });
            let ad = parsed.or_else(|error| {
                config.refuse(key, &error);
                let good = &self.good_layer2_advertisements;
                good.get(key).cloned().ok_or(())
            });
            if let Ok(ad) = ad {
                for notice in ad.contradictions() {
                    config.notice(key.clone(), notice);
                }
                good.insert(key.clone(), ad.clone());
                let name = ad.name.clone();
                config.layer2_advertisements.entry(name).or_insert(ad);
            }
        }
        self.good_layer2_advertisements = good;
    }
}
