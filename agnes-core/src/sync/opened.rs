//! What brings a source over: a connector of this process, or a program.

use std::path::{Path, PathBuf};

use super::plan::{self, extractor};
use super::{Connectors, Runs, SourceSettings, SyncSettings};
use crate::connector::Connector;
use crate::{Error, Kind, Result, SourceName};

/// A connector that can run.
pub(super) enum Opened {
    Object(Box<dyn Connector>),
    Program(Vec<PathBuf>),
}

impl SyncSettings {
    /// What is wrong with the sources, each on its own: a connector that isn't there, or that
    /// doesn't take its configuration. Nothing runs.
    ///
    /// # Errors
    /// `Unavailable` when the folder of connectors can't be read.
    pub fn faults(&self, connectors: &Connectors) -> Result<Vec<(SourceName, Error)>> {
        let sources = plan::sources(self)?.into_iter();
        let fault = |(name, (settings, dropped_in)): (SourceName, (SourceSettings, bool))| {
            let error = match self.opened(connectors, &settings, dropped_in) {
                Ok(Opened::Object(_)) => return None,
                Ok(Opened::Program(command)) => missing(&command)?,
                Err(error) => error,
            };
            Some((name, error))
        };
        Ok(sources.filter_map(fault).collect())
    }

    /// The connector of a source, with its configuration.
    pub(super) fn opened(
        &self,
        connectors: &Connectors,
        source: &SourceSettings,
        dropped_in: bool,
    ) -> Result<Opened> {
        let name = match &source.runs {
            Runs::Program(command) => {
                let mut command: Vec<PathBuf> = command.iter().map(PathBuf::from).collect();
                // A bare name is looked for on the PATH, as everywhere.
                if let Some(program) = command.first_mut()
                    && !is_bare(program)
                {
                    *program = self.base_dir.join(&program);
                }
                return Ok(Opened::Program(command));
            }
            Runs::Connector(name) => name,
        };
        if !dropped_in && let Some(connector) = connectors.get(name) {
            return connector.open(&source.config, &self.base_dir).map(Opened::Object);
        }
        let folder = self.connectors_dir.as_ref();
        let folder = folder.filter(|_| SourceName::parse(name.as_str()).is_ok());
        let program = folder.and_then(|folder| extractor(&folder.join(name)));
        let Some(program) = program else {
            let cure = match crate::name::nearest(name, connectors.names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "put an `extractor.py` into the folder of connectors, or name a `command`"
                    .to_string(),
            };
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no connector `{}`; {cure}", crate::name::shown(name)),
            ));
        };
        let is_python = program.extension().is_some_and(|extension| extension == "py");
        Ok(Opened::Program(match is_python {
            true => vec![self.python.clone(), program],
            false => vec![program],
        }))
    }
}

/// Whether a program's name says nothing of where it is.
fn is_bare(program: &Path) -> bool {
    program.components().count() <= 1
}

/// That the program of a command isn't there, where its name says where it should be.
fn missing(command: &[PathBuf]) -> Option<Error> {
    let program = match command {
        [] => return Some(Error::new(Kind::Invalid, "its `command` is empty")),
        [program, ..] => program,
    };
    (!is_bare(program) && !program.is_file())
        .then(|| Error::new(Kind::NotFound, format!("there is no program `{}`", program.display())))
}
