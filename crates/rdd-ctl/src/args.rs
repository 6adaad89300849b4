//! kubectl's flags, for the verbs that are here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "ctl",
    about = "kubectl's verbs against a control plane",
    after_help = "Verbs and flags that are not listed are passed to a kubectl on the PATH, if there is one.\n\nExamples:\n  \
        rdd ctl get containers -w\n  rdd ctl get images -o yaml\n  \
        rdd ctl annotate container web containers.rancherdesktop.io/action=stop\n  rdd ctl delete volume --all"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Common {
    /// Namespace of the request
    #[arg(long, short = 'n', global = true)]
    pub(crate) namespace: Option<String>,
    /// The kubeconfig to use
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The cluster of the kubeconfig to use
    #[arg(long, global = true)]
    pub(crate) cluster: Option<String>,
    /// The user of the kubeconfig to use
    #[arg(long, global = true)]
    pub(crate) user: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Show objects
    Get(Get),
    /// Delete objects
    Delete(Delete),
    /// Wait until something holds
    Wait(Wait),
    /// Bring objects to the content of files
    Apply(Apply),
    /// Create objects from files
    Create(Create),
    /// Replace objects by the content of files
    Replace(Create),
    /// Change fields of an object
    Patch(Patch),
    /// Set or remove annotations
    Annotate(Marks),
    /// Set or remove labels
    Label(Marks),
    /// Show the served types
    ApiResources(ApiResources),
    /// Show the served versions
    ApiVersions,
    /// Show the kubeconfig
    Config {
        #[command(subcommand)]
        what: Config,
    },
    /// Print what a container has said
    #[command(
        after_help = "Examples:\n  rdd ctl logs web\n  rdd ctl logs -f --tail=20 web\n  rdd ctl logs --since=5m 018e389d"
    )]
    Logs(Logs),
    /// Run a command in a container
    #[command(
        after_help = "Examples:\n  rdd ctl exec web -- ls /\n  rdd ctl exec -it web -- sh\n  echo hello | rdd ctl exec -i web -- cat"
    )]
    Exec(Exec),
    /// Show the versions of client and server
    Version(Version),
    /// Wait for one condition of one object
    WaitCondition(WaitCondition),
}

/// How objects are shown.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Show {
    /// json, yaml, name, wide, jsonpath=…, custom-columns=…
    #[arg(long, short = 'o', value_name = "FORMAT")]
    pub(crate) output: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Select {
    /// Label selector
    #[arg(long, short = 'l')]
    pub(crate) selector: Option<String>,
    /// Field selector
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
    /// In every namespace
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) show: Show,
    /// Go on showing changes
    #[arg(long, short = 'w')]
    pub(crate) watch: bool,
    /// Show only changes
    #[arg(long)]
    pub(crate) watch_only: bool,
    /// Leave the headings out
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Objects of these files
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Show the type before each name
    #[arg(long)]
    pub(crate) show_kind: bool,
    /// Show labels in a last column
    #[arg(long)]
    pub(crate) show_labels: bool,
    /// Show these labels in columns
    #[arg(long, short = 'L', value_delimiter = ',')]
    pub(crate) label_columns: Vec<String>,
    /// Sort by what a JSONPath finds
    #[arg(long, value_name = "JSONPATH")]
    pub(crate) sort_by: Option<String>,
    /// Missing objects are no error
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Objects per request; 0 is all at once
    #[arg(long, default_value_t = 500)]
    pub(crate) chunk_size: u64,
    /// Show who owns which field
    #[arg(long)]
    pub(crate) show_managed_fields: bool,
    /// Print what the server answers to this path
    #[arg(long, value_name = "PATH")]
    pub(crate) raw: Option<String>,
    /// TYPE[,TYPE…] [NAME…] or TYPE/NAME …
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Logs {
    /// Go on with what is said from now on
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Only so many last lines; -1 is all of them
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, value_name = "LINES")]
    pub(crate) tail: i64,
    /// Only what was said since so long ago, such as 5m
    #[arg(long, value_name = "DURATION", conflicts_with = "since_time")]
    pub(crate) since: Option<String>,
    /// Only what was said since this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since_time: Option<String>,
    /// With the time before each line
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// The container's name, its identifier, or the beginning of that
    pub(crate) container: String,
}

#[derive(Args)]
pub(crate) struct Exec {
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// With a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// As this user
    #[arg(long, short = 'u')]
    pub(crate) exec_user: Option<String>,
    /// In this folder
    #[arg(long, short = 'w', value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// With this variable, NAME=VALUE
    #[arg(long, short = 'e', value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The container's name, its identifier, or the beginning of that
    pub(crate) container: String,
    /// The command and its arguments
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All objects of the type
    #[arg(long)]
    pub(crate) all: bool,
    /// Objects of these files
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Missing objects are no error
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Return only when the objects are gone
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) wait: bool,
    /// Limit of that wait; 0 is none
    #[arg(long, default_value = "0s")]
    pub(crate) timeout: String,
    /// Seconds that an object may take to go
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub(crate) grace_period: i64,
    /// background, orphan or foreground
    #[arg(long, default_value = "background", default_missing_value = "background", num_args = 0..=1, require_equals = true)]
    pub(crate) cascade: String,
    /// Do not wait for anything to end in order
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) trial: Trial,
    #[command(flatten)]
    pub(crate) show: Show,
    /// TYPE NAME… or TYPE/NAME …
    pub(crate) words: Vec<String>,
}

/// Whether a write is only tried.
#[derive(Args)]
pub(crate) struct Trial {
    /// none, client or server
    #[arg(long, default_value = "none", default_missing_value = "unchanged", num_args = 0..=1, require_equals = true)]
    pub(crate) dry_run: String,
}

/// What becomes of fields that the server does not know.
#[derive(Args)]
pub(crate) struct Strictness {
    /// strict, warn or ignore
    #[arg(long, default_value = "strict", default_missing_value = "strict", num_args = 0..=1, require_equals = true)]
    pub(crate) validate: String,
}

#[derive(Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All objects of the type
    #[arg(long)]
    pub(crate) all: bool,
    /// create, delete, condition=TYPE[=STATUS] or jsonpath=PATH[=VALUE]
    #[arg(long = "for", value_name = "WHAT", default_value = "")]
    pub(crate) what: String,
    /// Limit of the wait; 0 looks once, negative is a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    pub(crate) timeout: String,
    #[command(flatten)]
    pub(crate) show: Show,
    /// TYPE NAME… or TYPE/NAME …
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Apply {
    /// Files, folders, or - for standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Let the server merge
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) server_side: bool,
    /// Take fields from other managers
    #[arg(long)]
    pub(crate) force_conflicts: bool,
    /// The name under which fields are owned
    #[arg(long, default_value = "kubectl")]
    pub(crate) field_manager: String,
    #[command(flatten)]
    pub(crate) trial: Trial,
    #[command(flatten)]
    pub(crate) strictness: Strictness,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Args)]
pub(crate) struct Create {
    /// Files, folders, or - for standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// NAME=VALUE of a configmap or secret
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) from_literal: Vec<String>,
    #[command(flatten)]
    pub(crate) trial: Trial,
    #[command(flatten)]
    pub(crate) strictness: Strictness,
    #[command(flatten)]
    pub(crate) show: Show,
    /// namespace NAME, configmap NAME or secret generic NAME
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Patch {
    /// json, merge or strategic
    #[arg(long, default_value = "strategic")]
    pub(crate) r#type: String,
    /// The change, as JSON or YAML
    #[arg(long, short = 'p')]
    pub(crate) patch: Option<String>,
    /// A file with the change
    #[arg(long)]
    pub(crate) patch_file: Option<PathBuf>,
    /// status, scale, …
    #[arg(long)]
    pub(crate) subresource: Option<String>,
    #[command(flatten)]
    pub(crate) trial: Trial,
    #[command(flatten)]
    pub(crate) show: Show,
    /// TYPE NAME or TYPE/NAME
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Marks {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All objects of the type
    #[arg(long)]
    pub(crate) all: bool,
    /// Values that are there may be replaced
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) trial: Trial,
    #[command(flatten)]
    pub(crate) show: Show,
    /// TYPE NAME KEY=VALUE… KEY-…
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ApiResources {
    /// Only types of these categories
    #[arg(long, value_delimiter = ',')]
    pub(crate) categories: Vec<String>,
    /// Only types of this group
    #[arg(long)]
    pub(crate) api_group: Option<String>,
    /// Only types in namespaces, or only others
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(crate) namespaced: Option<bool>,
    /// Only types with these verbs
    #[arg(long, value_delimiter = ',')]
    pub(crate) verbs: Vec<String>,
    /// Leave the headings out
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// name or wide
    #[arg(long, short = 'o')]
    pub(crate) output: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// Show it, without secrets unless --raw or --flatten is given
    View {
        /// Only what the current context uses
        #[arg(long)]
        minify: bool,
        /// With certificates and keys inside
        #[arg(long)]
        flatten: bool,
        /// With secrets
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Show the current context
    CurrentContext,
    /// Show the contexts
    GetContexts {
        #[command(flatten)]
        show: Show,
    },
    /// Show the clusters
    GetClusters,
    /// Show the users
    GetUsers,
}

#[derive(Args)]
pub(crate) struct Version {
    /// Only the client's
    #[arg(long)]
    pub(crate) client: bool,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Args)]
pub(crate) struct WaitCondition {
    /// The reason that it must have
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// A time after which it must have changed, or startup
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Limit of the wait; 0 is none
    #[arg(long, default_value = "30s")]
    pub(crate) timeout: String,
    /// TYPE[.GROUP]/NAME CONDITION[=STATUS]
    pub(crate) words: Vec<String>,
}
