//! A data folder with a server over it, and people who ask.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agnes_core::access::{Email, GroupName, NewToken, Principal, Resource};
use agnes_core::clock::{Clock, SystemClock};
use agnes_core::connectors::files::{FilesConnector, FilesOptions};
use agnes_core::{
    Agnes, Components, NoProgress, Secret, Secrets, Settings, SourceName, Timestamp, TokenEnv,
    WorkerProgram, WorkerSettings,
};
use agnes_server::{App, ServerSettings, router};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const SCHEDULER: &str = "a scheduler's secret of enough length";

struct Keys;

impl Secrets for Keys {
    fn get(&self, name: &TokenEnv) -> agnes_core::Result<Option<Secret>> {
        Ok(match name.as_str() {
            "JWT_SECRET_KEY" => Some(Secret::new("a key of at least thirty-two characters")),
            "SCHEDULER_API_TOKEN" => Some(Secret::new(SCHEDULER)),
            _ => None,
        })
    }
}

/// The system's clock, so many seconds off.
#[derive(Default)]
pub(crate) struct Jumping(AtomicI64);

impl Jumping {
    pub(crate) fn jump(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.now().as_micros() + self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct House {
    pub(crate) clock: Arc<Jumping>,
    pub(crate) agnes: Arc<Agnes>,
    pub(crate) app: App,
    router: Router,
    folder: tempfile::TempDir,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn detail(&self) -> String {
        match &self.json()["detail"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// A request that is being put together.
pub(crate) struct Ask<'a> {
    house: &'a House,
    request: Request<Body>,
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        *self.request.body_mut() = Body::from(body.to_string());
        self.header("content-type", "application/json")
    }

    pub(crate) fn text(mut self, body: &str) -> Self {
        *self.request.body_mut() = Body::from(body.to_string());
        self
    }

    /// An answer of which nobody reads more than the head.
    pub(crate) async fn begin(self) -> axum::response::Response {
        self.house.router.clone().oneshot(self.request).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        self.send_with_trailers().await.0
    }

    /// The same, with what comes behind the body.
    pub(crate) async fn send_with_trailers(self) -> (Answer, HeaderMap) {
        let response = self.house.router.clone().oneshot(self.request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes();
        (Answer { status: parts.status, headers: parts.headers, body }, trailers)
    }
}

/// What a server has its statements run in.
// Where the engine of a development build lies.
#[allow(clippy::disallowed_methods)]
fn worker() -> WorkerProgram {
    let loader = std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH".into(), path));
    WorkerProgram {
        path: env!("CARGO_BIN_EXE_agnes").into(),
        arguments: vec!["worker".to_string()],
        environment: loader.into_iter().collect(),
        remote_environment: Vec::new(),
    }
}

impl House {
    /// Orders and salaries are published; Ada may see the orders, Eve nothing, and Root is an
    /// admin. All have the same password.
    pub(crate) fn new() -> House {
        House::with(ServerSettings { rate_limits: false, ..ServerSettings::default() })
    }

    pub(crate) fn with(settings: ServerSettings) -> House {
        let house = House::empty(settings);
        house.publish("orders", "id,total\n1,9.5\n2,20\n3,0.5\n");
        house.publish("salaries", "name,salary\nada,31337\n");
        let access = house.app_access();
        let admin = access.admin(&Principal::Operator).unwrap();
        for name in ["root", "ada", "eve"] {
            let user = admin.add_user(Email::parse(address(name)).unwrap(), None).unwrap();
            admin.set_password(&user.id, &Secret::new(PASSWORD)).unwrap();
        }
        let root = admin.user_by_email(&Email::parse("root@example.com").unwrap()).unwrap();
        let admins = admin.group_by_name(&GroupName::admin()).unwrap();
        admin.add_member(&admins.id, &root.user.id).unwrap();
        let sales = admin.add_group(GroupName::parse("sales").unwrap(), None).unwrap();
        let ada = admin.user_by_email(&Email::parse("ada@example.com").unwrap()).unwrap();
        admin.add_member(&sales.id, &ada.user.id).unwrap();
        admin.grant(&sales.id, Resource::parse("table:orders").unwrap()).unwrap();
        house
    }

    /// Nothing is published, and nobody is there.
    pub(crate) fn empty(settings: ServerSettings) -> House {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Jumping::default());
        let components =
            Components { clock: clock.clone(), secrets: Arc::new(Keys), ..Components::default() };
        let data = folder.path().join("data");
        let workers = Some(WorkerSettings::new(worker()));
        let core = Settings { workers, ..Settings::default() };
        let agnes = Agnes::open_with(data, core, components).unwrap();
        let agnes = Arc::new(agnes);
        let app = App::new(agnes.clone(), settings).unwrap();
        House { router: router(app.clone()), clock, agnes, app, folder }
    }

    pub(crate) fn app_access(&self) -> Arc<agnes_core::access::Access> {
        self.agnes.access().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Publishes a table of a source of the same name.
    pub(crate) fn publish(&self, name: &str, csv: &str) {
        let file = self.path(&format!("{name}.csv"));
        std::fs::write(&file, csv).unwrap();
        let files = FilesConnector::new(vec![file], FilesOptions::default());
        self.agnes.ingest(&SourceName::parse(name).unwrap(), &files, &NoProgress).unwrap();
        self.agnes.rebuild(None, &NoProgress).unwrap();
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 5555));
        request.extensions_mut().insert(ConnectInfo(peer));
        Ask { house: self, request }
    }

    pub(crate) fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    /// Sends a form whose parts are divided by `b`.
    pub(crate) async fn upload(&self, path: &str, token: &str, form: String) -> Answer {
        let mut ask = self.post(path).token(token);
        *ask.request.body_mut() = Body::from(form);
        ask.header("content-type", "multipart/form-data; boundary=b").send().await
    }

    /// The session of somebody who has signed in.
    pub(crate) fn session(&self, name: &str) -> String {
        let access = self.app_access();
        let user = access.user_by_email(&Email::parse(address(name)).unwrap()).unwrap();
        access.session_token(&user.id, serde_json::Map::new()).unwrap().expose().to_string()
    }

    /// A personal token.
    pub(crate) fn token(&self, name: &str) -> String {
        let access = self.app_access();
        let user = access.user_by_email(&Email::parse(address(name)).unwrap()).unwrap();
        let (_, token) =
            access.create_token(&Principal::user(user.id), NewToken::named("test")).unwrap();
        token.expose().to_string()
    }
}

pub(crate) fn address(name: &str) -> String {
    format!("{name}@example.com")
}

/// The cookie that an answer sets, as a browser sends it back.
pub(crate) fn cookie(answer: &Answer) -> String {
    let set = answer.headers.get(header::SET_COOKIE).expect("it sets a cookie").to_str().unwrap();
    set.split(';').next().unwrap().to_string()
}
