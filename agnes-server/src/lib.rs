//! Agnes over HTTP, and the `agnes` command.
//!
//! The core decides; what is here converts and transports. A service of your own mounts the same
//! routes:
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//!
//! use agnes_core::Agnes;
//! use agnes_server::{App, ServerSettings, router};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let agnes = Arc::new(Agnes::open("data")?);
//! let app = App::new(agnes, ServerSettings::default())?;
//! // By itself, with its limits on connections: `agnes_server::serve(listener, app, end)`.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
//! axum::serve(listener, service).await?;
//! # Ok(())
//! # }
//! ```

mod cli;
mod http;
mod json;
mod values;

pub use cli::run as command;
pub use http::{
    App, Configuration, ConnectionSettings, Fits, Guard, MailSecurity, MailSettings, Provider,
    Release, ScanSettings, SendFile, ServerSettings, TlsFiles, Variables, described, router, serve,
};
