//! `agnes token`: personal access tokens.

use std::time::Duration;

use agnes_core::access::{BOOTSTRAP_SCOPE, Email, NewToken, PersonalToken, SIGNING_KEY_MIN};
use agnes_core::{Agnes, Error, Kind, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{Done, Output};
use super::people::{OPERATOR, email};

pub(super) const HELP: &str = "\
Make personal access tokens, with which programs act for a user.

A token may do what its user may, as long as both hold. It is shown once, when it is made.";

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) json: super::Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token and print it
    Create {
        /// The address of the user that it acts for
        #[arg(value_parser = email)]
        email: Email,
        /// What it is called
        #[arg(long)]
        name: String,
        /// How long it holds, as in 90d, 12h, 30m, 45s or never
        #[arg(long, default_value = "90d", value_parser = lifetime)]
        ttl: Lifetime,
        /// What it is for; one for bootstrap-analyst holds an hour at most
        #[arg(long, value_enum, default_value_t = Scope::General)]
        scope: Scope,
    },
    /// List the tokens, of one user or of all
    List {
        /// The user's address
        #[arg(value_parser = email)]
        email: Option<Email>,
    },
    /// End a token, at once
    Revoke {
        /// Its id, the first 8 digits of it, or its name
        token: String,
    },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scope {
    General,
    BootstrapAnalyst,
}

/// The token that a text means.
fn meant(tokens: Vec<PersonalToken>, text: &str) -> Result<PersonalToken> {
    let by_id = |token: &PersonalToken| token.id.as_str().eq_ignore_ascii_case(text);
    if let Some(token) = tokens.iter().find(|token| by_id(token)) {
        return Ok(token.clone());
    }
    let is_meant = |token: &PersonalToken| {
        token.revoked_at.is_none()
            && (token.name == text || token.prefix.eq_ignore_ascii_case(text))
    };
    let mut meant: Vec<PersonalToken> = tokens.into_iter().filter(is_meant).collect();
    let shown = text.escape_debug();
    match (meant.pop(), meant.is_empty()) {
        (Some(token), true) => Ok(token),
        (Some(_), false) => Err(Error::new(
            Kind::Conflict,
            format!("`{shown}` means several tokens; name one by its id (`agnes token list`)"),
        )),
        (None, _) => Err(Error::new(
            Kind::NotFound,
            format!("there is no token `{shown}` that holds; `agnes token list` shows all"),
        )),
    }
}

/// How long a token holds; none for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime(Option<Duration>);

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let wrong = || "write a number and a unit, as in 90d, 12h, 30m or 45s, or `never`".to_string();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 24 * 3600,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let count = text.strip_suffix(unit).and_then(|n| n.parse::<u64>().ok()).ok_or_else(wrong)?;
    Ok(Lifetime(Some(Duration::from_secs(count.saturating_mul(seconds)))))
}

impl Token {
    pub(super) fn run(self, agnes: &Agnes, output: &Output) -> Result<Done> {
        let access = agnes.access()?;
        let admin = access.admin(OPERATOR)?;
        match self.command {
            Command::Create { email, name, ttl, scope } => {
                let user = admin.user_by_email(&email)?.user;
                let scope = match scope {
                    Scope::General => "general",
                    Scope::BootstrapAnalyst => BOOTSTRAP_SCOPE,
                };
                let new = NewToken { name, lifetime: ttl.0, scope: scope.to_string() };
                let (token, secret) = admin.create_token(&user.id, new)?;
                if access.has_weak_key() {
                    output.note(format_args!(
                        "warning: JWT_SECRET_KEY has fewer than {SIGNING_KEY_MIN} characters: \
                         whoever guesses it can make tokens"
                    ));
                }
                let mut told = json!(token);
                if let Some(told) = told.as_object_mut() {
                    told.insert("token".into(), secret.expose().into());
                }
                self.json.one(output, &told, || secret.expose().to_string())?;
                if !self.json.json {
                    let end = match token.expires_at {
                        Some(end) => format!("until {end}"),
                        None => "until it is revoked".to_string(),
                    };
                    output.note(format_args!(
                        "token {} of {email} holds {end}; it is not shown again",
                        token.id
                    ));
                }
                Ok(Done::Whole)
            }
            Command::List { email } => {
                let of = email.map(|email| admin.user_by_email(&email)).transpose()?;
                let mut tokens = admin.tokens()?;
                if let Some(of) = of {
                    tokens.retain(|token| token.user == of.user.id);
                }
                self.json.list(output, &tokens, |tokens, output| {
                    let moment = |at: Option<agnes_core::Timestamp>, none: &str| {
                        at.map_or_else(|| none.to_string(), |at| at.to_string())
                    };
                    let state = |token: &PersonalToken| match token.revoked_at {
                        Some(_) => "revoked".to_string(),
                        None => moment(token.expires_at, "never"),
                    };
                    let owner = |token: &PersonalToken| {
                        let user = admin.user(&token.user);
                        user.map_or_else(|_| token.user.to_string(), |of| of.user.email.to_string())
                    };
                    let rows = tokens.iter().map(|token| {
                        [
                            owner(token),
                            token.name.clone(),
                            state(token),
                            moment(token.last_used_at, "never"),
                            token.id.to_string(),
                        ]
                    });
                    output.table(["user", "name", "ends", "last used", "id"], &[], rows)
                })
            }
            Command::Revoke { token } => {
                let token = meant(admin.tokens()?, &token)?;
                admin.revoke_token(&token.id)?;
                let told = json!({"id": token.id, "user_id": token.user, "name": token.name});
                self.json.one(output, &told, || format!("{}: revoked", token.id))
            }
        }
    }
}
