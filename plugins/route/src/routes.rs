//! The routes in the order of the text, which is the order of the outputs. serde's own maps would lose it, and would
//! accept a value that is routed twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

#[derive(Debug)]
pub struct Routes(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RoutesVisitor)
    }
}

struct RoutesVisitor;

impl<'de> Visitor<'de> for RoutesVisitor {
    type Value = Routes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object from values to names of outputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Routes, A::Error> {
        let mut routes: Vec<(String, String)> = Vec::new();
        while let Some((found, output)) = map.next_entry::<String, String>()? {
            if routes.iter().any(|(other, _)| *other == found) {
                return Err(A::Error::custom(format!("it routes `{found}` twice")));
            }
            routes.push((found, output));
        }
        Ok(Routes(routes))
    }
}
