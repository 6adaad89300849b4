//! Custom resource definitions: how soon they are served, and what each costs.

use std::time::Instant;

use anyhow::Result;

use crate::Figure;
use crate::lab::Lab;
use crate::objects::{self, JSON};
use crate::resident::mebibytes;
use crate::statistics::Samples;

/// Definitions per measurement.
const COUNT: usize = 100;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Creates a definition, then lists its objects, which fails while it is not served.
pub(crate) async fn served(lab: &Lab) -> Result<Vec<Figure>> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let mut connection = lab.server()?.connect().await?;
    let before = lab.resident_kib()?;
    let (mut whole, mut answers) = (Vec::new(), Vec::new());
    for number in 1..=COUNT {
        let body = objects::definition(number);
        let list = format!("/apis/bench.example.com/v1/widget{number}xs");
        let begin = Instant::now();
        connection
            .call("POST", DEFINITIONS, JSON, body.as_bytes())
            .await?;
        answers.push(begin.elapsed());
        while connection.call("GET", &list, "", b"").await.is_err() {
            tokio::task::yield_now().await;
        }
        whole.push(begin.elapsed());
    }
    let grown = lab.resident_kib()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let each = mebibytes(grown * 1024) / COUNT as f64;
    Ok(vec![
        Figure {
            name: "definition created to served".to_owned(),
            value: Samples::new(whole).to_string(),
            floor: format!("the answer to its creation: {}", Samples::new(answers)),
            target: "<= 3 ms",
        },
        Figure {
            name: format!("resident memory per definition, of {COUNT}"),
            value: format!("{each:.2} MiB"),
            floor: "none".to_owned(),
            target: "<= 0.2 MiB",
        },
    ])
}
