//! All rules of one server, in order.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::GroupVersionResource;
use crate::admit::{AdmissionRequest, Admit, Admitted, Denial, Operation, Phase};

/// Rules in the order in which they run. Immutable: a changed chain is a new one.
#[derive(Clone, Default)]
pub struct AdmissionChain {
    mutating: Vec<Arc<dyn Admit>>,
    validating: Vec<Arc<dyn Admit>>,
    listed: BTreeSet<(String, String)>,
}

impl fmt::Debug for AdmissionChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |rules: &[Arc<dyn Admit>]| -> Vec<String> {
            rules.iter().map(|rule| rule.name().to_owned()).collect()
        };
        formatter
            .debug_struct("AdmissionChain")
            .field("mutating", &names(&self.mutating))
            .field("validating", &names(&self.validating))
            .finish()
    }
}

impl AdmissionChain {
    /// Orders rules by phase, keeping their order otherwise.
    pub fn new(rules: impl IntoIterator<Item = Arc<dyn Admit>>) -> Self {
        rules.into_iter().fold(Self::default(), Self::with)
    }

    /// The same rules and, behind those of its phase, this one.
    #[must_use]
    pub fn with(mut self, rule: Arc<dyn Admit>) -> Self {
        match rule.phase() {
            Phase::Mutating => self.mutating.push(rule),
            Phase::Validating => self.validating.push(rule),
        }
        self
    }

    /// The same rules, of which some are also listed as webhooks: each by its name and
    /// its URL, which reaches the very rule that is in this chain.
    #[must_use]
    pub fn listed(mut self, webhooks: impl IntoIterator<Item = (String, String)>) -> Self {
        self.listed = webhooks.into_iter().collect();
        self
    }

    /// Whether a webhook is one of these rules, which have judged already.
    #[must_use]
    pub fn stands_for(&self, webhook: &str, url: &str) -> bool {
        let mut listed = self.listed.iter();
        listed.any(|(name, at)| name == webhook && at == url)
    }

    /// Whether any rule wants to see such a write; if not, no request need be built.
    #[must_use]
    pub fn wants(
        &self,
        phase: Phase,
        resource: &GroupVersionResource,
        subresource: &str,
        operation: Operation,
    ) -> bool {
        self.rules(phase).iter().any(|rule| {
            rule.matches()
                .iter()
                .any(|matches| matches.covers(resource, subresource, operation))
        })
    }

    /// Lets every mutating rule see the object, and the rules before the last one
    /// that changed it a second time. The request's object is the result.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, request: &mut AdmissionRequest) -> Result<Vec<String>, Denial> {
        let mut warnings = Vec::new();
        let mut last_change = 0;
        for (index, rule) in self.mutating.iter().enumerate() {
            if ask(rule.as_ref(), request, &mut warnings).await? {
                last_change = index;
            }
        }
        for rule in &self.mutating[..last_change] {
            ask(rule.as_ref(), request, &mut warnings).await?;
        }
        Ok(warnings)
    }

    /// Lets every validating rule judge the final object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &mut AdmissionRequest) -> Result<Vec<String>, Denial> {
        let mut warnings = Vec::new();
        for rule in &self.validating {
            ask(rule.as_ref(), request, &mut warnings).await?;
        }
        Ok(warnings)
    }

    fn rules(&self, phase: Phase) -> &[Arc<dyn Admit>] {
        match phase {
            Phase::Mutating => &self.mutating,
            Phase::Validating => &self.validating,
        }
    }
}

/// Whether the rule changed the object.
async fn ask(
    rule: &dyn Admit,
    request: &mut AdmissionRequest,
    warnings: &mut Vec<String>,
) -> Result<bool, Denial> {
    let covered = rule
        .matches()
        .iter()
        .any(|matches| matches.covers(&request.resource, &request.sub_resource, request.operation));
    if !covered {
        return Ok(false);
    }
    let Admitted {
        object,
        warnings: more,
    } = rule.admit(request).await?;
    for warning in more {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    match object {
        Some(object) if rule.phase() == Phase::Mutating && object != request.object => {
            request.object = object;
            Ok(true)
        }
        _ => Ok(false),
    }
}
