//! Servers that are measured: `agnes serve`, and nginx beside it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::agnes;

/// A process that serves, ended when dropped.
pub struct Running {
    child: Child,
    /// As in `http://127.0.0.1:8000`.
    pub url: String,
    /// From its start to its first healthy answer.
    pub start: Duration,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: a process of ours that wasn't waited for yet.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// Who signs in: mail address and password.
pub const ADMIN: (&str, &str) = ("root@example.com", "correct horse battery staple");

/// Starts `agnes serve` over a data folder, with `server` of its configuration.
pub fn serve(home: &Path, server: &str) -> Running {
    let config = home.join("config");
    std::fs::create_dir_all(&config).expect("folders can be made");
    let text = format!(
        "instance: {{name: bench}}\nserver: {{host: 127.0.0.1, hostname: localhost{server}}}\n"
    );
    std::fs::write(config.join("instance.yaml"), text).expect("a file can be written");
    let begun = Instant::now();
    let mut child = Command::new(agnes())
        .args(["--data-dir".as_ref(), home.as_os_str()])
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("CONFIG_DIR", &config)
        .env("SEED_ADMIN_EMAIL", ADMIN.0)
        .env("SEED_ADMIN_PASSWORD", ADMIN.1)
        .env("AGNES_AUTH_RATELIMIT_ENABLED", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agnes starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it has an error output")).lines();
    let url = loop {
        let line = lines.next().expect("it goes on").expect("it is text");
        if let Some(url) = line.strip_prefix("listening on ") {
            break url.to_string();
        }
    };
    // As a log that is kept: every line is written and read.
    std::thread::spawn(move || lines.for_each(drop));
    while ureq::get(format!("{url}/api/health")).call().is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Running { child, url, start: begun.elapsed() }
}

/// nginx over a folder, with sendfile, and with an answer at `/ok`; none where there is none.
pub fn nginx(home: &Path, files: &Path) -> Option<Running> {
    let found = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
    let program = found.iter().map(Path::new).find(|path| path.exists())?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let place = home.join("nginx");
    std::fs::create_dir_all(&place).expect("folders can be made");
    let config = place.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 2; pid {0}/nginx.pid; error_log {0}/error.log;
         events {{ worker_connections 1024; }}
         http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {0}/body;
           proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;
           scgi_temp_path {0}/s;
           server {{ listen 127.0.0.1:{port}; root {1};
             location = /ok {{ return 200 ok; }} }} }}",
        place.display(),
        files.display()
    );
    std::fs::write(&config, text).expect("a file can be written");
    let mut command = Command::new(program);
    command.arg("-p").arg(&place).arg("-c").arg(&config).arg("-g").arg(match is_root() {
        true => "user root;",
        false => "",
    });
    let begun = Instant::now();
    let child = command.stderr(Stdio::null()).spawn().ok()?;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(Running { child, url: format!("http://127.0.0.1:{port}"), start: begun.elapsed() })
}

fn is_root() -> bool {
    // SAFETY: it has no arguments and can't fail.
    unsafe { libc::geteuid() == 0 }
}

impl Running {
    /// CPU time of the process and of its children, so far.
    pub fn cpu(&self) -> Duration {
        processes(self.child.id()).into_iter().filter_map(cpu).sum()
    }

    /// A figure of `/proc/PID/status`, as it stands there.
    pub fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let text = text.expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let digits = line.and_then(|line| line.split_whitespace().next());
        digits.and_then(|digits| digits.parse().ok()).expect("it is a number")
    }

    /// Memory that it holds, bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS") * 1024
    }

    /// Files and sockets that it has open.
    pub fn descriptors(&self) -> usize {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.child.id()));
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

fn processes(of: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(of).chain(children).collect()
}

fn cpu(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
