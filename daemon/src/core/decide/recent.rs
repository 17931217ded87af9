//! Stores equal values once.

/// The most recent values. Thousands of services have equal ones: each value is stored once.
#[derive(Clone, Debug)]
pub(super) struct Recent<P>(Vec<P>);

/// Number of values that are compared for each route.
const RECENT: usize = 16;

impl<P> Default for Recent<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P: Clone + PartialEq> Recent<P> {
    /// Returns the stored pointer to an equal value, or stores this one.
    pub(super) fn share(&mut self, pointer: P) -> P {
        if let Some(known) = self.0.iter().find(|known| **known == pointer) {
            return known.clone();
        }
        if self.0.len() == RECENT {
            self.0.remove(0);
        }
        self.0.push(pointer.clone());
        pointer
    }
}
