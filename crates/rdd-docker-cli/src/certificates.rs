//! The certificates that the user's contexts hold for engines on other machines.

use std::fs;

use rdd_engine::{Certificates, Endpoint};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{Files, read};

impl Files {
    /// What the first context that leads to this endpoint holds to prove both sides; none
    /// when no context leads there, or none of them with certificates. Blocks.
    ///
    /// # Errors
    /// When the certificates cannot be read. Contexts that cannot be read lead nowhere.
    pub fn certificates(&self, endpoint: &Endpoint) -> Result<Option<Certificates>> {
        let Ok(contexts) = fs::read_dir(self.all_meta()) else {
            return Ok(None);
        };
        let mut names: Vec<String> = contexts
            .filter_map(|entry| {
                let meta = read(&entry.ok()?.path().join("meta.json")).ok()??;
                let meta: Value = serde_json::from_slice(&meta).ok()?;
                let host = meta["Endpoints"]["docker"]["Host"].as_str()?;
                let leads_there = Endpoint::parse(host).is_ok_and(|host| host == *endpoint);
                let name = meta["Name"].as_str()?;
                leads_there.then(|| name.to_owned())
            })
            .collect();
        names.sort();
        for name in names {
            let folder = self.tls(&name).join("docker");
            let file = |name: &str| read(&folder.join(name));
            let Some(authority) = file("ca.pem")? else {
                continue;
            };
            let client = match (file("cert.pem")?, file("key.pem")?) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                (None, _) => return Err(Error::Missing(folder.join("cert.pem"))),
                (_, None) => return Err(Error::Missing(folder.join("key.pem"))),
            };
            return Ok(Some(Certificates { authority, client }));
        }
        Ok(None)
    }
}
