//! What functions do, one module per library, and the types that they take.

use crate::functions::Run;

pub(crate) mod authorizer;
pub(crate) mod collections;
pub(crate) mod formats;
pub(crate) mod instant;
pub(crate) mod network;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod standard;
pub(crate) mod strings;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod url;

/// Each library with its declarations: name, id, `receiver .`, parameters, `: result`.
pub(crate) const DECLARATIONS: &[(Run, &str)] = &[
    (standard::call, standard::DECLARATIONS),
    (time::call, time::DECLARATIONS),
    (strings::call, strings::DECLARATIONS),
    (collections::call, collections::DECLARATIONS),
    (regex::unreached, regex::DECLARATIONS),
    (url::call, url::DECLARATIONS),
    (network::call, network::DECLARATIONS),
    (quantity::call, quantity::DECLARATIONS),
    (semver::call, semver::DECLARATIONS),
    (formats::call, formats::DECLARATIONS),
    (optional::call, optional::DECLARATIONS),
    (authorizer::call, authorizer::DECLARATIONS),
];
