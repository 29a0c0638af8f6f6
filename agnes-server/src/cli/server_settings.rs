//! How `agnes serve` is set up: by its flags, by variables, by the configuration.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agnes_core::access::Email;
use agnes_core::config::{Config, EmailConfig, ScanConfig, ServerConfig};
use agnes_core::{Agnes, Error, Kind, Result, Secret};
use ipnet::IpNet;

use super::environment::Environment;
use super::log::LogFormat;
use crate::http::{
    Configuration, ConnectionSettings, MailSecurity, MailSettings, Provider, Release, ScanSettings,
    SendFile, ServerSettings, TlsFiles, safe_path,
};

/// How lines of the log look.
pub(super) fn log_format(config: &Config, environment: &Environment) -> Result<LogFormat> {
    let format = environment.get("AGNES_LOG_FORMAT").or(config.server.log_format.clone());
    LogFormat::parse(format.as_deref())
}

/// Where it listens: the flag or its variable, or what is configured.
pub(super) fn listen(given: Option<SocketAddr>, config: &ServerConfig) -> Result<SocketAddr> {
    if let Some(given) = given {
        return Ok(given);
    }
    let host = config.host.as_deref().unwrap_or("127.0.0.1");
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let host: IpAddr = host.parse().map_err(|_| {
        Error::new(
            Kind::Invalid,
            format!("`server.host` is an address, as in `0.0.0.0`, not `{}`", host.escape_debug()),
        )
    })?;
    Ok(SocketAddr::new(host, config.port.unwrap_or(8000)))
}

/// What is configured, with the variables that go before it.
pub(super) fn settings(
    config: &Config,
    environment: &Environment,
    address: IpAddr,
) -> Result<ServerSettings> {
    let server = &config.server;
    let list = |name: &str, configured: &Option<Vec<String>>| match environment.get(name) {
        Some(text) => text.split(',').map(|one| one.trim().to_string()).collect(),
        None => configured.clone().unwrap_or_default(),
    };
    let proxies: Vec<String> = list("AGNES_TRUSTED_PROXIES", &server.trusted_proxies);
    let usual = ServerSettings::default();
    let tls = tls(config)?;
    Ok(ServerSettings {
        threads: server.threads.unwrap_or(usual.threads),
        download_threads: server.download_threads.unwrap_or(usual.download_threads),
        max_rows: server.max_query_rows.unwrap_or(usual.max_rows),
        secure_cookies: environment.get("DOMAIN").is_some() || tls.is_some(),
        trusted_proxies: proxies.iter().map(|text| network(text)).collect::<Result<_>>()?,
        rate_limits: environment.get("AGNES_AUTH_RATELIMIT_ENABLED").as_deref() != Some("0"),
        providers: providers(config.auth.providers.as_deref())?,
        mail: mail(&config.email, environment)?,
        home_route: match environment.get("AGNES_HOME_ROUTE").or(config.instance.home_route.clone())
        {
            Some(route) => Some(home_route(&route)?),
            None => None,
        },
        dev_user: dev_user(environment, address)?,
        public_url: public_url(environment.get("DOMAIN"), server, address)?,
        max_body: server.max_body_bytes.unwrap_or(usual.max_body),
        connections: connections(server),
        metrics_listen: match environment
            .get("AGNES_METRICS_LISTEN")
            .or(server.metrics_listen.clone())
        {
            Some(text) => Some(super::serve::address(&text).map_err(|what| {
                let shown = text.escape_debug();
                Error::new(Kind::Invalid, format!("`server.metrics_listen` is `{shown}`: {what}"))
            })?),
            None => None,
        },
        tls,
        cors_origins: origins(&list("CORS_ORIGINS", &server.cors_origins), environment)?,
        send_file: send_file(server.send_file.as_deref())?,
        scans: scans(&config.api.scan),
        data_source: config.data_source(environment.get("DATA_SOURCE").as_deref()),
        configuration: Some(configuration(config, environment)),
        jira_webhook_secret: environment.get("JIRA_WEBHOOK_SECRET").map(Secret::new),
        release: Release {
            channel: environment.get("AGNES_CHANNEL"),
            image_tag: environment.get("AGNES_IMAGE_TAG"),
            commit_sha: environment.get("AGNES_COMMIT_SHA"),
            deployed_at: environment.get("AGNES_DEPLOYED_AT"),
        },
        ..usual
    })
}

fn connections(server: &ServerConfig) -> ConnectionSettings {
    let usual = ConnectionSettings::default();
    let seconds = |set: Option<u64>, usual| set.map_or(usual, Duration::from_secs);
    ConnectionSettings {
        most: server.max_connections.unwrap_or(usual.most),
        head: seconds(server.head_seconds, usual.head),
        body: seconds(server.body_seconds, usual.body),
        idle: seconds(server.idle_seconds, usual.idle),
        stall: seconds(server.stall_seconds, usual.stall),
        shutdown: seconds(server.shutdown_seconds, usual.shutdown),
    }
}

/// The files of the certificate, where there is one; relative ones as everywhere in the configuration.
fn tls(config: &Config) -> Result<Option<TlsFiles>> {
    let ServerConfig { tls_certificate, tls_key, .. } = &config.server;
    match (tls_certificate, tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let files = config.files();
            Ok(Some(TlsFiles { certificate: files.path(certificate), key: files.path(key) }))
        }
        _ => Err(Error::new(
            Kind::Invalid,
            "`server.tls_certificate` and `server.tls_key` go together, and one of them is missing",
        )),
    }
}

fn configuration(config: &Config, environment: &Environment) -> Configuration {
    let (environment, there) = (environment.clone(), environment.clone());
    let variables = move |name: &str| environment.set(name);
    let fits = move |config: &Config| check(config, &there);
    let files = config.files().clone();
    Configuration { files, variables: Arc::new(variables), fits: Arc::new(fits) }
}

/// Whether a server could start with a configuration.
///
/// # Errors
/// `Invalid`, naming the first key with which it couldn't.
pub(super) fn check(config: &Config, environment: &Environment) -> Result<()> {
    let listen = listen(None, &config.server)?;
    log_format(config, environment)?;
    crate::http::check(&settings(config, environment, listen.ip())?)
}

/// Where others reach the server; empty where nobody says, when it is where it listens.
fn public_url(domain: Option<String>, server: &ServerConfig, address: IpAddr) -> Result<String> {
    let url = |scheme: &str, name: &str, what: &str| {
        let text = format!("{scheme}://{name}");
        let url = url::Url::parse(&text).ok();
        let is_plain = |url: &url::Url| {
            url.host().is_some()
                && url.path() == "/"
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
                && !name.contains(['/', '@'])
        };
        url.filter(is_plain).map(|_| text).ok_or_else(|| {
            let shown = name.escape_debug();
            Error::new(
                Kind::Invalid,
                format!("{what} is a name, as in `data.example.com`, not `{shown}`"),
            )
        })
    };
    match (domain, server.hostname.as_deref()) {
        (Some(domain), _) => url("https", &domain, "DOMAIN"),
        (None, None) => Ok(String::new()),
        (None, Some(name)) if name == "localhost" || name.parse::<IpAddr>().is_ok() => {
            Ok(String::new())
        }
        (None, Some(name)) if server.tls_certificate.is_some() => {
            let port = server.port.unwrap_or(8000);
            let name = if port == 443 { name.to_string() } else { format!("{name}:{port}") };
            url("https", &name, "`server.hostname`")
        }
        // Whatever is in front of it on this machine ends HTTPS.
        (None, Some(name)) if address.is_loopback() => url("https", name, "`server.hostname`"),
        (None, Some(name)) => {
            let port = server.port.unwrap_or(8000);
            url("http", &format!("{name}:{port}"), "`server.hostname`")
        }
    }
}

/// Whose pages may call the server.
fn origins(texts: &[String], environment: &Environment) -> Result<Vec<String>> {
    // Where every request is a developer's, another page of her machine has to be named.
    let is_dev = environment.get("LOCAL_DEV_MODE").as_deref() == Some("1");
    if texts.is_empty() && !is_dev {
        return Ok(USUAL_ORIGINS.map(str::to_string).to_vec());
    }
    let origin = |text: &String| {
        let url = url::Url::parse(text).ok();
        let origin = url.map(|url| url.origin()).filter(url::Origin::is_tuple);
        let origin = origin.map(|origin| origin.ascii_serialization());
        origin.filter(|origin| origin == text).ok_or_else(|| {
            let shown = text.escape_debug();
            Error::new(
                Kind::Invalid,
                format!("`server.cors_origins` are origins, as in `https://app.example.com`, not `{shown}`"),
            )
        })
    };
    texts.iter().filter(|text| !text.is_empty()).map(origin).collect()
}

/// What an analyst runs beside a server on her machine.
const USUAL_ORIGINS: [&str; 2] = ["http://localhost:3000", "http://localhost:8000"];

fn scans(config: &ScanConfig) -> ScanSettings {
    let usual = ScanSettings::default();
    ScanSettings {
        max_limit: config.max_limit.unwrap_or(usual.max_limit),
        max_result_bytes: config.max_result_bytes.unwrap_or(usual.max_result_bytes),
        max_concurrent: config.max_concurrent_per_user.unwrap_or(usual.max_concurrent),
        max_daily_bytes: config.max_daily_bytes_per_user.unwrap_or(usual.max_daily_bytes),
    }
}

fn providers(configured: Option<&[String]>) -> Result<Vec<Provider>> {
    let Some(configured) = configured else { return Ok(Provider::ALL.to_vec()) };
    let provider = |text: &String| match text.as_str() {
        "password" => Ok(Provider::Password),
        "email" => Ok(Provider::Email),
        other => Err(Error::new(
            Kind::Invalid,
            format!("`auth.providers` are `password` and `email`, not `{}`", other.escape_debug()),
        )),
    };
    let mut providers: Vec<Provider> = configured.iter().map(provider).collect::<Result<_>>()?;
    providers.dedup();
    Ok(providers)
}

/// Who carries the mail, if anybody does.
fn mail(config: &EmailConfig, environment: &Environment) -> Result<Option<MailSettings>> {
    let or = |name: &str, configured: &Option<String>| environment.get(name).or(configured.clone());
    let Some(host) = or("SMTP_HOST", &config.smtp_host) else { return Ok(None) };
    let invalid = |what: String| Error::new(Kind::Invalid, what);
    let port =
        match environment.get("SMTP_PORT") {
            Some(port) => Some(port.parse().map_err(|_| {
                invalid(format!("SMTP_PORT is a port, not `{}`", port.escape_debug()))
            })?),
            None => config.smtp_port,
        };
    let security = match or("SMTP_TLS", &config.smtp_tls).as_deref() {
        None | Some("starttls") => MailSecurity::StartTls,
        Some("tls") => MailSecurity::Tls,
        Some("none") => MailSecurity::None,
        Some(other) => {
            let other = other.escape_debug();
            return Err(invalid(format!(
                "`email.smtp_tls` is `starttls`, `tls` or `none`, not `{other}`"
            )));
        }
    };
    let password = environment.get("SMTP_PASSWORD").map(Secret::new);
    let password = password.or(config.smtp_password.clone());
    let credentials = or("SMTP_USER", &config.smtp_user)
        .map(|user| (user, password.unwrap_or_else(|| Secret::new(""))));
    let from = or("SMTP_FROM", &config.from_address).ok_or_else(|| {
        invalid("a mail server needs the address that mail comes from: `email.from_address`".into())
    })?;
    let from_name = config.from_name.clone().or_else(|| Some("Agnes".to_string()));
    Ok(Some(MailSettings { host, port, security, credentials, from, from_name }))
}

fn home_route(text: &str) -> Result<String> {
    safe_path(text).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!(
                "the home route is a path on this server, as in `/dashboard`, not `{}`",
                text.escape_debug()
            ),
        )
    })
}

/// An address, or a network.
fn network(text: &str) -> Result<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        Error::new(
            Kind::Invalid,
            format!(
                "`server.trusted_proxies` are addresses and networks, as in `10.0.0.0/8`, not `{}`",
                text.escape_debug()
            ),
        )
    })
}

fn send_file(text: Option<&str>) -> Result<SendFile> {
    match text {
        None | Some("own") => Ok(SendFile::Own),
        Some("accel") => Ok(SendFile::Accel),
        Some("sendfile") => Ok(SendFile::Sendfile),
        Some(other) => Err(Error::new(
            Kind::Invalid,
            format!(
                "`server.send_file` is `own`, `accel` or `sendfile`, not `{}`",
                other.escape_debug()
            ),
        )),
    }
}

/// The user that every request is, where only this machine's can come.
fn dev_user(environment: &Environment, address: IpAddr) -> Result<Option<Email>> {
    if environment.get("LOCAL_DEV_MODE").as_deref() != Some("1") {
        return Ok(None);
    }
    if !address.is_loopback() {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "LOCAL_DEV_MODE lets everybody in, so that it takes a loopback address; {address} \
                 is none"
            ),
        ));
    }
    let email = environment.get("LOCAL_DEV_USER_EMAIL");
    Email::parse(email.as_deref().unwrap_or("dev@localhost")).map(Some)
}

/// The settings, as they are, without secrets.
pub(super) fn told(settings: &ServerSettings, agnes: &Agnes) -> Vec<String> {
    let proxies: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
    let or_none = |texts: &[String]| match texts {
        [] => "none".to_string(),
        texts => texts.join(", "),
    };
    let mut lines = vec![
        format!("  data folder      {}", agnes.layout().root().display()),
        format!("  threads          {}", settings.threads),
        format!("  rows of a query  {} at most", settings.max_rows),
        format!("  trusted proxies  {}", or_none(&proxies)),
        format!("  other origins    {}", or_none(&settings.cors_origins)),
        format!(
            "  cookies          {}",
            if settings.secure_cookies { "HTTPS only" } else { "also over HTTP" }
        ),
    ];
    let carrier = settings.mail.as_ref().map(|mail| &*mail.host);
    lines.push(format!("  mail             {}", carrier.unwrap_or("none: links aren't mailed")));
    lines.push(format!("  links lead to    {}", settings.public_url));
    if settings.providers == [Provider::Email] && settings.mail.is_none() {
        lines.push("warning: people sign in by mail alone, and nobody carries it".to_string());
    }
    if !settings.rate_limits {
        lines.push("warning: attempts to sign in aren't counted".to_string());
    }
    if let Some(user) = &settings.dev_user {
        lines.push(format!("warning: every request is {user}'s (LOCAL_DEV_MODE)"));
    }
    lines
}
