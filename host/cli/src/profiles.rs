//! `ostler profile`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::options::{PayloadOptions, PromptArguments};
use super::output::{DIM, complain};
use super::payload::{self, PayloadArgs};
use super::table::{Cell, Table};
use super::{clean, format};
use ostler_client::Client;
use ostler_protocol::methods::SaveProfileParams;
use ostler_protocol::{ApiError, ErrorKind, Nulls, Profile, escape_pointer, merge};

const EXAMPLES: &str = "\
Examples:
  ostler profile save careful --provider codex --sandbox read-only --timeout 20m
  ostler profile save review --provider claude --config review.json
  ostler profile list
  ostler run --profile careful \"what could be simpler here?\"

Options of a run override its profile.";

/// Manage profiles (named default options)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the profiles
    #[command(after_help = "Examples:\n  ostler profile list\n  ostler profile list --provider codex --json")]
    List {
        /// Only profiles for this provider
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
    },
    /// Show a profile as JSON
    #[command(
        after_help = "Examples:\n  ostler profile show careful\n  ostler profile show careful --json | jq .config"
    )]
    Show {
        /// Name or id of the profile
        profile: String,
    },
    /// Create a profile, or change the one of that name
    Save(Box<Save>),
    /// Delete a profile; runs that were started with it are not affected
    #[command(after_help = "Examples:\n  ostler profile delete careful")]
    Delete {
        /// Name or id of the profile
        profile: String,
    },
}

const SAVE_EXAMPLES: &str = "\
Examples:
  ostler profile save careful --provider codex --sandbox read-only --timeout 20m
  ostler profile save review --provider claude --config review.json
  ostler profile save careful --model other            changes the model, keeps the rest
  ostler profile save careful --clear timeoutSeconds   removes the time limit
  ostler profile save careful --replace --model other  removes everything else

Secrets are refused: a provider's key comes from the token store or from your environment.";

#[derive(Debug, Args)]
#[command(after_help = SAVE_EXAMPLES)]
struct Save {
    /// Name of the profile
    name: String,
    #[command(flatten)]
    prompt: PromptArguments,
    /// Provider that the profile is for [default: that of the existing profile]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    #[command(flatten)]
    options: PayloadOptions,
    /// Part of a start payload as JSON (`-`: standard input); other options override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Remove a field of the existing profile: model, harness.permissions.sandboxMode (repeatable)
    #[arg(long, value_name = "FIELD", conflicts_with = "replace")]
    clear: Vec<String>,
    /// Remove everything from the existing profile that is not given now
    #[arg(long)]
    replace: bool,
}

/// A saved profile, and the fields that this change removed.
struct Saved {
    profile: Profile,
    removed: Vec<String>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    match arguments.action {
        Action::List { provider } => {
            let mut profiles = context.client().await?.list_profiles().await?;
            profiles.retain(|profile| provider.as_ref().is_none_or(|provider| profile.provider == *provider));
            if context.json {
                context.out.document(&profiles)?;
            } else if profiles.is_empty() {
                complain("no profiles; `ostler profile save` creates one");
            } else {
                table(&profiles).print(&mut context.out)?;
            }
        }
        Action::Show { profile } => {
            let profile = named(&context.client().await?, &profile).await?;
            if context.json {
                context.out.document(&profile)?;
            } else {
                let text = render(&profile, context);
                context.out.write(&text)?;
            }
        }
        Action::Save(save) => {
            let Saved { profile, removed } = self::save(context, *save).await?;
            if context.json {
                context.out.document(&profile)?;
            } else {
                let sets = shown(&fields(&profile.config));
                let sets = if sets.is_empty() { "nothing".to_owned() } else { sets };
                let (name, provider) = (shown(&profile.name), shown(&profile.provider));
                context.out.line(format!("saved {name} for {provider}; it sets {sets}"))?;
                if !removed.is_empty() {
                    context.out.line(format!("removed: {}", shown(&removed.join(", "))))?;
                }
            }
        }
        Action::Delete { profile } => {
            let deleted = context.client().await?.delete_profile(profile).await?;
            if context.json {
                context.out.document(&deleted)?;
            } else {
                context.out.line(format!("deleted {}", shown(&deleted.name)))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn save(context: &mut Context<'_>, save: Save) -> Result<Saved, ApiError> {
    let base = save.config.as_deref();
    save.options.reads_stdin(&save.prompt, base)?;
    let payload_args = PayloadArgs { prompt: save.prompt.read()?, ..save.options.gather(base)? };
    let mut changes = payload::part(payload_args)?;
    for field in &save.clear {
        payload::clear(&mut changes, field)?;
    }
    let client = context.client().await?;
    let known = client.list_profiles().await?.into_iter().find(|profile| profile.name == save.name);
    let Some(provider) = save.provider.or_else(|| known.as_ref().map(|known| known.provider.clone())) else {
        let message = format!("there is no profile {:?} yet: name its provider with --provider", shown(&save.name));
        return Err(ApiError::new(ErrorKind::InvalidParams, message).at("--provider"));
    };
    let before = known.as_ref().map_or_else(|| json!({}), |known| known.config.clone());
    for field in &save.clear {
        let pointer = format!("/{}", field.replace('.', "/"));
        if before.pointer(&pointer).is_none() {
            let message = format!("--clear {:?}: the profile does not have this field", shown(field));
            return Err(ApiError::new(ErrorKind::InvalidParams, message)
                .at("--clear")
                .hint("`ostler profile show` shows its fields"));
        }
    }
    let mut config = if save.replace { json!({}) } else { before.clone() };
    merge(&mut config, changes, Nulls::Clear);
    let Value::Object(config) = config else {
        return Err(ApiError::internal("the fields of a profile are an object"));
    };
    let id = known.map(|known| known.profile_id);
    let profile = client.save_profile(&SaveProfileParams { id, name: save.name, provider, config }).await?;
    let removed = removed(&before, &profile.config);
    Ok(Saved { profile, removed })
}

/// Dotted names of the fields that are in `before` but not in `after`.
fn removed(before: &Value, after: &Value) -> Vec<String> {
    let gone = leaves(before).into_iter().filter(|pointer| after.pointer(pointer).is_none());
    gone.map(|pointer| pointer.trim_start_matches('/').replace('/', ".")).collect()
}

/// Pointers to the values of a document; a list is one value.
fn leaves(document: &Value) -> Vec<String> {
    match document {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .flat_map(|(name, value)| {
                let inner = leaves(value).into_iter();
                inner.map(|pointer| format!("/{}{pointer}", escape_pointer(name))).collect::<Vec<_>>()
            })
            .collect(),
        _ => vec![String::new()],
    }
}

/// The profile with this name or id.
pub(super) fn find<'a>(profiles: &'a [Profile], wanted: &str) -> Option<&'a Profile> {
    let by_id = profiles.iter().find(|profile| profile.profile_id.to_string() == wanted);
    by_id.or_else(|| profiles.iter().find(|profile| profile.name == wanted))
}

/// The profile that a payload names. `None` if it does not exist: the host reports that.
pub(super) async fn of_payload(client: &Client, payload: &Value) -> Result<Option<Profile>, ApiError> {
    let Some(name) = payload.get("profileId").and_then(Value::as_str) else { return Ok(None) };
    Ok(find(&client.list_profiles().await?, name).cloned())
}

/// The folder that a profile names.
pub(super) fn folder(profile: &Profile) -> Option<PathBuf> {
    profile.config.get("cwd")?.as_str().map(PathBuf::from)
}

async fn named(client: &Client, wanted: &str) -> Result<Profile, ApiError> {
    let profiles = client.list_profiles().await?;
    find(&profiles, wanted).cloned().ok_or_else(|| {
        ApiError::not_found("profile", format_args!("{:?}", shown(wanted)))
            .hint("`ostler profile list` lists the profiles")
    })
}

fn table(profiles: &[Profile]) -> Table {
    let mut table = Table::new(&["NAME", "PROVIDER", "CHANGED", "SETS"], 3);
    for profile in profiles {
        table.row(vec![
            profile.name.as_str().into(),
            profile.provider.as_str().into(),
            Cell::styled(DIM, &format::local(profile.updated_at)),
            fields(&profile.config).into(),
        ]);
    }
    table
}

/// Names of the fields that a configuration sets. Those in `harness` are listed one by one.
fn fields(config: &Value) -> String {
    let names = |value: &Value| value.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default();
    let all: Vec<String> = names(config);
    let parts = all.into_iter().flat_map(|name| match name.as_str() {
        "harness" => names(config.get("harness").unwrap_or(&Value::Null)),
        _ => vec![name],
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn render(profile: &Profile, context: &Context<'_>) -> String {
    let fields = [
        ("name", shown(&profile.name)),
        ("id", profile.profile_id.to_string()),
        ("provider", shown(&profile.provider)),
        ("created", format::local_full(profile.created_at)),
        ("changed", format::local_full(profile.updated_at)),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        text.push_str(&format!("{}{value}\n", context.out.styled(DIM, &format!("{name:<10}"))));
    }
    let config = format!("{:#}", profile.config);
    let config = if context.out.stdout_terminal { clean::json(&config) } else { config };
    text.push_str(&format!("\n{config}\n"));
    text
}

fn shown(text: &str) -> String {
    clean::line(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn profile(name: &str, id: &str) -> Profile {
        Profile {
            profile_id: id.parse().unwrap(),
            name: name.to_owned(),
            provider: "codex".to_owned(),
            config: json!({"model": "m", "harness": {"tools": [], "limits": {"maxTurns": 3}}}),
            created_at: "2020-03-05T12:00:00Z".parse().unwrap(),
            updated_at: "2020-03-05T12:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn finds_profile_by_id_or_name() {
        let (one, other) = ("01999999-8888-7777-8666-123456789abc", "01999999-8888-7777-8666-123456789abd");
        let profiles = [profile("fast", one), profile("careful", other)];
        assert_eq!(find(&profiles, "careful").unwrap().profile_id.to_string(), other);
        assert_eq!(find(&profiles, one).unwrap().name, "fast");
        assert!(find(&profiles, "car").is_none());
    }

    #[test]
    fn lists_removed_fields() {
        let before =
            json!({"model": "m", "harness": {"tools": ["shell"], "permissions": {"sandboxMode": "read-only"}}});
        let after = json!({"model": "other", "harness": {"tools": []}});
        assert_eq!(removed(&before, &after), ["harness.permissions.sandboxMode"]);
        assert!(removed(&json!({}), &after).is_empty() && removed(&before, &before).is_empty());
    }

    #[test]
    fn lists_fields_of_profile() {
        let text = table(&[profile("fast", "01999999-8888-7777-8666-123456789abc")]).render(Some(60), false);
        insta::assert_snapshot!(text, @r"
        NAME  PROVIDER  CHANGED     SETS
        fast  codex     2020-03-05  model, tools, limits
        ");
    }
}
