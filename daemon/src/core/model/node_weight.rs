//! The weight in the annotation of a Node.

use std::num::ParseFloatError;
use std::str::FromStr;

/// The weight of a Node by its annotation, from 0.001 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeWeight {
    thousandths: u32,
}

/// An invalid weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a number from 0.001 to 1000000: write a positive number such as 2 or 0.5")]
pub struct InvalidWeight {
    text: String,
}

impl FromStr for NodeWeight {
    type Err = InvalidWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: Result<f64, ParseFloatError> = text.trim().parse();
        let number = number.ok().filter(|number| (0.001..=1e6).contains(number));
        let bad = || InvalidWeight {
            text: text.to_owned(),
        };
        let number = number.ok_or_else(bad)?;
        // Go through the printed number: exact for up to three decimal places.
        let digits = format!("{number:.3}").replace('.', "");
        let thousandths = digits.parse().map_err(|_| bad())?;
        Ok(Self { thousandths })
    }
}

impl NodeWeight {
    /// The weight, from 0.001 to 1,000,000.
    pub fn value(self) -> f64 {
        f64::from(self.thousandths) / 1000.0
    }
}
