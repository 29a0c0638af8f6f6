//! What whoever holds a data folder asks for, in words: addresses, names, `table:orders`.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Busy, Writing};
use crate::access::{
    Admin, AuditEvent, Decision, Email, Explanation, Grant, GrantOverview, Group, GroupId,
    GroupName, GroupOverview, Member, Membership, NewTable, NewToken, Overview, PersonalToken,
    Principal, Resource, TokenId, User, UserId,
};
#[cfg(feature = "conformance")]
use crate::conformance::{ExtractCheck, check_extract};
use crate::extract::WriteMode;
use crate::metadata::{MetadataStatus, Outcome, Refresh, Which as WhichMetadata};
use crate::metric::{Metric, MetricCheck, MetricImport};
use crate::orchestrator::{RebuildPlan, RebuildReport};
use crate::profile::ProfileReport;
use crate::registry::{Adoption, Declaration, RegisteredTable};
use crate::sync::{SyncPlan, SyncReport, Which};
use crate::{
    Agnes, ExtractWriter, NoProgress, Progress, Result, Secret, SourceName, TableId, ViewName,
};

/// Whoever opens a data folder holds it.
const OPERATOR: &Principal = &Principal::Operator;

/// A data folder, of which whoever holds it asks things in words, as the calls of a binding do. What needs no words
/// is asked of the [`Agnes`] that it is.
///
/// Each call fails with `Invalid` for a word that can't be what it is meant to be, with `NotFound` for one that
/// names nothing, and otherwise as what it calls.
///
/// ```
/// use agnes_core::Agnes;
/// use agnes_core::binding::Operator;
///
/// # let dir = tempfile::tempdir().unwrap();
/// let agnes = Agnes::open(dir.path())?;
/// let agnes = Operator::of(&agnes);
/// agnes.add_user("ada@example.com", None, false)?;
/// agnes.add_group("sales", None)?;
/// agnes.add_member("sales", "ada@example.com")?;
/// assert!(!agnes.decide("ada@example.com", "table:orders")?.is_allowed());
/// assert_eq!(agnes.add_member("buyers", "ada@example.com").unwrap_err().kind().as_str(), "NotFound");
/// # Ok::<(), agnes_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Operator<'a>(&'a Agnes);

impl Deref for Operator<'_> {
    type Target = Agnes;

    fn deref(&self) -> &Agnes {
        self.0
    }
}

fn named(source: Option<&str>) -> Result<Option<SourceName>> {
    source.map(SourceName::parse).transpose()
}

fn which(sources: Vec<String>, all: bool) -> Result<Which> {
    let sources = sources.into_iter().map(SourceName::parse);
    Which::of(sources.collect::<Result<_>>()?, all)
}

fn user_of(admin: &Admin<'_>, email: &str) -> Result<UserId> {
    Ok(admin.user_by_email(&Email::parse(email)?)?.user.id)
}

fn group_of(admin: &Admin<'_>, name: &str) -> Result<GroupId> {
    Ok(admin.group_by_name(&GroupName::parse(name)?)?.id)
}

impl<'a> Operator<'a> {
    /// The operator of this folder.
    pub fn of(agnes: &'a Agnes) -> Self {
        Operator(agnes)
    }

    fn admin<T>(&self, work: impl FnOnce(&Admin<'_>) -> Result<T>) -> Result<T> {
        work(&self.access()?.admin(OPERATOR)?)
    }

    fn table(&self, named: &str) -> Result<TableId> {
        self.admin(|admin| Ok(admin.table_named(named)?.id))
    }
}

/// Who may see what.
#[allow(clippy::missing_errors_doc, reason = "all fail in the ways that `Operator` tells")]
impl Operator<'_> {
    /// As [`Admin::users`].
    pub fn users(&self) -> Result<Vec<Overview>> {
        self.admin(|admin| Ok(admin.users()))
    }

    /// As [`Admin::user`].
    pub fn user(&self, email: &str) -> Result<Overview> {
        self.admin(|admin| admin.user_by_email(&Email::parse(email)?))
    }

    /// As [`Admin::add_user`], or [`Admin::add_admin`].
    pub fn add_user(&self, email: &str, name: Option<String>, is_admin: bool) -> Result<User> {
        let email = Email::parse(email)?;
        self.admin(|admin| match is_admin {
            true => admin.add_admin(email, name),
            false => admin.add_user(email, name),
        })
    }

    /// As [`Admin::remove_user`].
    pub fn remove_user(&self, email: &str) -> Result<()> {
        self.admin(|admin| admin.remove_user(&user_of(admin, email)?))
    }

    /// As [`Admin::set_active`].
    pub fn set_active(&self, email: &str, active: bool) -> Result<User> {
        self.admin(|admin| admin.set_active(&user_of(admin, email)?, active))
    }

    /// As [`Admin::groups`].
    pub fn groups(&self) -> Result<Vec<GroupOverview>> {
        self.admin(|admin| Ok(admin.groups()))
    }

    /// As [`Admin::add_group`].
    pub fn add_group(&self, name: &str, description: Option<String>) -> Result<Group> {
        self.admin(|admin| admin.add_group(GroupName::parse(name)?, description))
    }

    /// As [`Admin::remove_group`].
    pub fn remove_group(&self, name: &str) -> Result<()> {
        self.admin(|admin| admin.remove_group(&group_of(admin, name)?))
    }

    /// As [`Admin::members`].
    pub fn members(&self, group: &str) -> Result<Vec<Member>> {
        self.admin(|admin| admin.members(&group_of(admin, group)?))
    }

    /// As [`Admin::add_member`].
    pub fn add_member(&self, group: &str, email: &str) -> Result<Membership> {
        self.admin(|admin| admin.add_member(&group_of(admin, group)?, &user_of(admin, email)?))
    }

    /// As [`Admin::remove_member`].
    pub fn remove_member(&self, group: &str, email: &str) -> Result<()> {
        self.admin(|admin| admin.remove_member(&group_of(admin, group)?, &user_of(admin, email)?))
    }

    /// As [`Admin::grants`].
    pub fn grants(&self) -> Result<Vec<GrantOverview>> {
        self.admin(|admin| Ok(admin.grants()))
    }

    /// As [`Admin::grant`].
    pub fn grant(&self, group: &str, resource: &str) -> Result<Grant> {
        let resource = Resource::parse(resource)?;
        self.admin(|admin| admin.grant(&group_of(admin, group)?, resource))
    }

    /// As [`Admin::revoke`].
    pub fn revoke(&self, group: &str, resource: &str) -> Result<Grant> {
        let (group, resource) = (GroupName::parse(group)?, Resource::parse(resource)?);
        self.admin(|admin| admin.revoke(&admin.grant_of(&group, &resource)?.grant.id))
    }

    /// As [`Access::decide`](crate::access::Access::decide).
    pub fn decide(&self, email: &str, resource: &str) -> Result<Decision> {
        let (email, resource) = (Email::parse(email)?, Resource::parse(resource)?);
        let access = self.access()?;
        Ok(access.decide(&access.principal_of(&email)?, &resource))
    }

    /// As [`Agnes::explain`].
    pub fn explain(&self, email: &str, table: &str) -> Result<Explanation> {
        self.0.explain(&Email::parse(email)?, table)
    }

    /// As [`Admin::create_token`].
    pub fn create_token(&self, email: &str, new: NewToken) -> Result<(PersonalToken, Secret)> {
        self.admin(|admin| admin.create_token(&user_of(admin, email)?, new))
    }

    /// As [`Admin::tokens`].
    pub fn tokens(&self) -> Result<Vec<PersonalToken>> {
        self.admin(|admin| admin.tokens())
    }

    /// As [`Admin::revoke_token`].
    pub fn revoke_token(&self, id: &str) -> Result<()> {
        self.admin(|admin| admin.revoke_token(&TokenId::parse(id)?).map(drop))
    }

    /// As [`Admin::audit`].
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        self.admin(|admin| admin.audit(limit))
    }
}

/// What came of asking about remote tables.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Refreshed {
    /// About one.
    Table(Outcome),
    /// About all, or those of which nothing fresh was known.
    Tables(Refresh),
}

/// Extracts, the registry, and what is known of tables.
#[allow(clippy::missing_errors_doc, reason = "all fail in the ways that `Operator` tells")]
impl Operator<'_> {
    /// Begins to write the extract of a source, as [`Writing::begin`].
    pub fn extract_writer(&self, source: &str, mode: &str, busy: Busy) -> Result<Writing> {
        let (source, mode) = (SourceName::parse(source)?, WriteMode::of(mode)?);
        let writer = ExtractWriter::begin(&self.layout().extract(&source), mode, self.now())?;
        Ok(Writing::of(writer, busy))
    }

    /// Looks at the extract of a source, as [`check_extract`].
    #[cfg(feature = "conformance")]
    pub fn check(&self, source: &str) -> Result<ExtractCheck> {
        check_extract(&self.layout().extract(&SourceName::parse(source)?))
    }

    /// As [`Agnes::plan_rebuild`].
    pub fn plan_rebuild(&self, source: Option<&str>) -> Result<RebuildPlan> {
        self.0.plan_rebuild(named(source)?.as_ref())
    }

    /// As [`Agnes::rebuild`].
    pub fn rebuild(&self, source: Option<&str>, progress: &dyn Progress) -> Result<RebuildReport> {
        self.0.rebuild(named(source)?.as_ref(), progress)
    }

    /// As [`Admin::tables`].
    pub fn registered_tables(&self) -> Result<Vec<RegisteredTable>> {
        self.admin(|admin| Ok(admin.tables()))
    }

    /// As [`Admin::register`], of what is declared about it; `id` may be among that.
    pub fn register(
        &self,
        name: &str,
        source: &str,
        mut declared: Map<String, Value>,
    ) -> Result<RegisteredTable> {
        let id = declared.remove("id").filter(|id| !id.is_null());
        let id = id.map(|id| TableId::parse(id.as_str().unwrap_or_default())).transpose()?;
        let (name, source) = (ViewName::parse(name)?, SourceName::parse(source)?);
        let declaration = Declaration::default().changed(declared)?;
        self.admin(|admin| admin.register(NewTable { id, name, source, declaration }))
    }

    /// As [`Admin::update_table`]; what isn't declared stays.
    pub fn update_table(
        &self,
        table: &str,
        declared: Map<String, Value>,
    ) -> Result<RegisteredTable> {
        self.admin(|admin| {
            admin.update_table(&admin.table_named(table)?.id, |update| {
                update.declaration = update.declaration.changed(declared)?;
                Ok(())
            })
        })
    }

    /// As [`Agnes::unregister`].
    pub fn unregister(&self, table: &str) -> Result<RegisteredTable> {
        let (table, _) = self.0.unregister(OPERATOR, &self.table(table)?, &NoProgress)?;
        Ok(table)
    }

    /// As [`Agnes::adopt`].
    pub fn adopt(&self, source: Option<&str>) -> Result<Adoption> {
        self.0.adopt(OPERATOR, named(source)?.as_ref())
    }

    /// As [`Agnes::plan_sync`]; which sources, as [`Which::of`] says.
    pub fn plan_sync(&self, sources: Vec<String>, all: bool) -> Result<SyncPlan> {
        self.0.plan_sync(&which(sources, all)?)
    }

    /// As [`Agnes::sync`]; which sources, as [`Which::of`] says.
    pub fn sync(
        &self,
        sources: Vec<String>,
        all: bool,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        self.0.sync(&which(sources, all)?, progress)
    }

    /// As [`Agnes::metadata_status`].
    pub fn metadata_status(&self) -> Result<MetadataStatus> {
        self.0.metadata_status(OPERATOR)
    }

    /// As [`Agnes::refresh_table_metadata`] where a table is named, as [`Agnes::refresh_metadata`] where none is;
    /// `stale` leaves out of all those of which something fresh is known.
    pub fn refresh_metadata(&self, table: Option<&str>, stale: bool) -> Result<Refreshed> {
        if let Some(table) = table {
            let outcome = self.refresh_table_metadata(OPERATOR, &self.table(table)?);
            return outcome.map(Refreshed::Table);
        }
        let which = if stale { WhichMetadata::NotFresh } else { WhichMetadata::All };
        self.0.refresh_metadata(OPERATOR, which).map(Refreshed::Tables)
    }

    /// As [`Agnes::refresh_profiles`]; all where none are named.
    pub fn refresh_profiles(
        &self,
        tables: Vec<String>,
        progress: &dyn Progress,
    ) -> Result<ProfileReport> {
        let tables = tables.into_iter().map(ViewName::parse).collect::<Result<Vec<_>>>()?;
        let only = (!tables.is_empty()).then_some(tables.as_slice());
        self.0.refresh_profiles(OPERATOR, only, progress)
    }

    /// As [`Agnes::metrics`].
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        self.0.metrics(OPERATOR)
    }

    /// As [`Agnes::put_metrics`], of a text of YAML; gives their ids.
    pub fn put_metrics(&self, yaml: &str, category: Option<&str>) -> Result<Vec<String>> {
        let metrics = Metric::parse_yaml(yaml, category)?;
        self.0.put_metrics(OPERATOR, &metrics)?;
        Ok(metrics.into_iter().map(|metric| metric.id).collect())
    }

    /// As [`Agnes::import_metrics`].
    pub fn import_metrics(&self, path: &Path) -> Result<MetricImport> {
        self.0.import_metrics(OPERATOR, path)
    }

    /// As [`Agnes::export_metrics`].
    pub fn export_metrics(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        self.0.export_metrics(OPERATOR, folder)
    }

    /// As [`Agnes::remove_metric`].
    pub fn remove_metric(&self, id: &str) -> Result<()> {
        self.0.remove_metric(OPERATOR, id)
    }

    /// As [`Agnes::check_metrics`].
    pub fn check_metrics(&self) -> Result<Vec<MetricCheck>> {
        self.0.check_metrics(OPERATOR)
    }
}
