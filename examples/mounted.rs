//! A service of one's own with Agnes below `/data`: the same routes, doors and pages.
//!
//! `cargo run --example mounted` listens on 127.0.0.1:8000; LISTEN says otherwise.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use agnes_core::access::Email;
use agnes_core::{Agnes, Error, Kind, Result, Secret};
use agnes_server::{App, ServerSettings, router};
use axum::Router;
use axum::routing::get;

/// The whole service.
fn service(data: &Path, address: &str) -> Result<Router> {
    let agnes = Arc::new(Agnes::open(data)?);
    // The first admin; another one adds the others, over HTTP or with the command.
    let (ada, password) = (Email::parse("ada@example.com")?, Secret::new("correct horse battery"));
    agnes.access()?.seed_admin(&ada, Some("Ada"), Some(&password))?;
    let settings =
        ServerSettings { public_url: format!("{address}/data"), ..ServerSettings::default() };
    let app = App::new(agnes, settings)?;
    Ok(Router::new().route("/", get(async || "my own page\n")).nest("/data", router(app)))
}

#[tokio::main]
#[allow(clippy::disallowed_methods)]
async fn main() -> Result<()> {
    let unavailable =
        |e: std::io::Error| Error::new(Kind::Unavailable, "the service ended").because(e);
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8000".to_string());
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(unavailable)?;
    let address = format!("http://{}", listener.local_addr().map_err(unavailable)?);
    let service = service(Path::new("mounted-data"), &address)?;
    println!("{address}, and Agnes at {address}/data (ada@example.com, correct horse battery)");
    // Attempts to sign in are counted by where they come from.
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await.map_err(unavailable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn both_answer_and_links_lead_below_the_mount() {
        let place = tempfile::tempdir().unwrap();
        let service = service(&place.path().join("data"), "http://localhost:8000").unwrap();
        let get = |path: &str, accept: &str| {
            let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
            service.clone().oneshot(request)
        };
        assert_eq!(get("/", "*/*").await.unwrap().status(), StatusCode::OK);
        assert_eq!(get("/data/api/health", "*/*").await.unwrap().status(), StatusCode::OK);
        assert_eq!(
            get("/data/api/sync/manifest", "*/*").await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
        let home = get("/data/dashboard", "text/html").await.unwrap();
        let to = home.headers()["location"].to_str().unwrap().to_string();
        assert_eq!(to, "/data/login?next=%2Fdata%2Fdashboard");
        let page = get(&to, "text/html").await.unwrap();
        let page = axum::body::to_bytes(page.into_body(), 1 << 20).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("action=\"/data/auth/password/login/web\""), "{page}");
        let form =
            "email=ada%40example.com&password=correct+horse+battery&next=%2Fdata%2Fdashboard";
        let request = Request::post("/data/auth/password/login/web")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let signed_in = service.clone().oneshot(request).await.unwrap();
        assert_eq!(signed_in.headers()["location"], "/data/dashboard");
    }
}
