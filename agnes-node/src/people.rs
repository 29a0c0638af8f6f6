//! Users, groups, grants, tokens: who may see what.

use agnes_core::access::NewToken;
use agnes_core::binding::Operator;
use napi::bindgen_prelude::{Either, Env, Function, Null};
use napi_derive::napi;

use crate::call::{Promised, raised};
use crate::db::Agnes;
use crate::session::millis;
use crate::value::count;

/// What is known of a new user.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct UserOptions {
    /// What people call her.
    pub name: Option<String>,
    /// Whether she may do everything.
    pub admin: Option<bool>,
}

/// What is known of a new group.
#[napi(object, object_to_js = false)]
pub struct GroupOptions {
    /// For people who look for groups.
    pub description: Option<String>,
}

/// What a token is for.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct TokenOptions {
    /// How long it holds, in milliseconds: 90 days where nothing is said, null for ever.
    #[napi(ts_type = "number | null")]
    pub lifetime_ms: Option<Either<f64, Null>>,
}

#[napi]
impl Agnes {
    /// Every user, by address.
    #[napi(ts_return_type = "Promise<User[]>")]
    pub fn users(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.users())
    }

    /// One user, with her groups.
    #[napi(ts_return_type = "Promise<User>")]
    pub fn user(&self, env: Env, email: String) -> Promised {
        self.told(env, move |agnes| agnes.user(&email))
    }

    /// Adds a user, who may see nothing yet; an admin, who may do everything.
    #[napi(ts_return_type = "Promise<User>")]
    pub fn add_user(&self, env: Env, email: String, options: Option<UserOptions>) -> Promised {
        let UserOptions { name, admin } = options.unwrap_or_default();
        self.told(env, move |agnes| agnes.add_user(&email, name, admin.unwrap_or(false)))
    }

    /// Removes a user, with her memberships and tokens.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove_user(&self, env: Env, email: String) -> Promised {
        self.does(env, move |agnes| agnes.remove_user(&email))
    }

    /// Lets a user in again, or no more; her groups stay.
    #[napi(ts_return_type = "Promise<User>")]
    pub fn set_active(&self, env: Env, email: String, active: bool) -> Promised {
        self.told(env, move |agnes| agnes.set_active(&email, active))
    }

    /// Every group, with how many members and grants it has.
    #[napi(ts_return_type = "Promise<Group[]>")]
    pub fn groups(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.groups())
    }

    /// Adds a group.
    #[napi(ts_return_type = "Promise<Group>")]
    pub fn add_group(&self, env: Env, name: String, options: Option<GroupOptions>) -> Promised {
        let description = options.and_then(|options| options.description);
        self.told(env, move |agnes| agnes.add_group(&name, description))
    }

    /// Removes a group, with its grants.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove_group(&self, env: Env, name: String) -> Promised {
        self.does(env, move |agnes| agnes.remove_group(&name))
    }

    /// The members of a group.
    #[napi(ts_return_type = "Promise<Member[]>")]
    pub fn members(&self, env: Env, group: String) -> Promised {
        self.told(env, move |agnes| agnes.members(&group))
    }

    /// Puts a user into a group.
    #[napi(ts_return_type = "Promise<Membership>")]
    pub fn add_member(&self, env: Env, group: String, email: String) -> Promised {
        self.told(env, move |agnes| agnes.add_member(&group, &email))
    }

    /// Takes a user out of a group.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove_member(&self, env: Env, group: String, email: String) -> Promised {
        self.does(env, move |agnes| agnes.remove_member(&group, &email))
    }

    /// Every grant.
    #[napi(ts_return_type = "Promise<Grant[]>")]
    pub fn grants(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.grants())
    }

    /// Lets a group see something: `table:orders`.
    #[napi(ts_return_type = "Promise<Grant>")]
    pub fn grant(&self, env: Env, group: String, resource: String) -> Promised {
        self.told(env, move |agnes| agnes.grant(&group, &resource))
    }

    /// Lets a group see something no more. It holds from the moment that the promise is kept.
    #[napi(ts_return_type = "Promise<Grant>")]
    pub fn revoke(&self, env: Env, group: String, resource: String) -> Promised {
        self.told(env, move |agnes| agnes.revoke(&group, &resource))
    }

    /// What decides whether a user may see something: a function of her address and the resource that tells a
    /// decision as JSON. For `index.js`, which makes `decide` of it: a method of a class takes a third longer, an
    /// object of a class of ours several times as long as the decision.
    #[napi(skip_typescript)]
    pub fn decider<'e>(&self, env: &'e Env) -> napi::Result<Function<'e, (), String>> {
        let open = self.open.clone();
        env.create_function_from_closure("decide", move |heard| {
            let (email, resource) = (heard.get::<String>(0)?, heard.get::<String>(1)?);
            let decide = || Operator::of(&*open.get()?).decide(&email, &resource);
            Ok(serde_json::to_string(&decide().map_err(raised)?)?)
        })
    }

    /// Whether a user may see a table, named by its id or its name, why, and whether there is anything to see.
    #[napi(ts_return_type = "Promise<Explanation>")]
    pub fn explain(&self, env: Env, email: String, table: String) -> Promised {
        self.told(env, move |agnes| agnes.explain(&email, &table))
    }

    /// Who may see a table, and why.
    #[napi(ts_return_type = "Promise<WhoCan>")]
    pub fn who_can(&self, env: Env, table: String) -> Promised {
        self.told(env, move |agnes| agnes.who_can(&table))
    }

    /// Makes a personal token, with which programs act for a user. Gives what is known of it, and the token itself,
    /// which is told once.
    #[napi(ts_return_type = "Promise<[Token, string]>")]
    pub fn create_token(
        &self,
        env: Env,
        email: String,
        name: String,
        options: Option<TokenOptions>,
    ) -> Promised {
        self.told(env, move |agnes| {
            let mut new = NewToken::named(&name);
            match options.unwrap_or_default().lifetime_ms {
                None => (),
                Some(Either::A(time)) => new.lifetime = Some(millis(time)?),
                Some(Either::B(Null)) => new.lifetime = None,
            }
            let (token, secret) = agnes.create_token(&email, new)?;
            Ok((token, secret.expose().to_string()))
        })
    }

    /// Every personal token, without what is secret of it.
    #[napi(ts_return_type = "Promise<Token[]>")]
    pub fn tokens(&self, env: Env) -> Promised {
        self.told(env, |agnes| agnes.tokens())
    }

    /// Ends a personal token, by its id.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn revoke_token(&self, env: Env, id: String) -> Promised {
        self.does(env, move |agnes| agnes.revoke_token(&id))
    }

    /// The last events of the audit log, the newest first: 100 where nothing is said.
    #[napi(ts_return_type = "Promise<AuditEvent[]>")]
    pub fn audit(&self, env: Env, limit: Option<f64>) -> Promised {
        self.told(env, move |agnes| {
            let limit = count(limit.unwrap_or(100.0))?;
            agnes.audit(u32::try_from(limit).unwrap_or(u32::MAX))
        })
    }
}
