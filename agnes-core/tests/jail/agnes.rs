//! The other end of a worker's wire, made by hand.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agnes_core::query::QueryLimits;
use serde_json::{Value, json};

use crate::WORKER;

pub const OPEN: u8 = 1;
pub const READY: u8 = 2;
pub const RUN: u8 = 6;
pub const MAY: u8 = 7;
pub const YES: u8 = 8;
pub const COLUMNS: u8 = 9;
pub const ROWS: u8 = 10;
pub const DONE: u8 = 11;
pub const FAILED: u8 = 12;

/// The most bytes of rows that are kept.
const ROWS_MAX: usize = 256 << 20;

/// A worker, and both of its sockets.
pub struct Worker {
    pub child: Child,
    line: UnixStream,
    /// It ends when this does.
    _control: UnixStream,
    /// The walls that it says stand.
    pub walls: Vec<String>,
}

impl Worker {
    /// Starts this program as a worker for a purpose, told some arguments.
    // Where the engine of a development build lies.
    #[allow(clippy::disallowed_methods)]
    pub fn start(purpose: &Value, arguments: &[String]) -> Worker {
        let (line, its_line) = UnixStream::pair().unwrap();
        let (control, its_control) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(WORKER).args(arguments).env_clear().current_dir("/");
        command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
        command.stdin(OwnedFd::from(its_line)).stdout(OwnedFd::from(its_control));
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut worker = Worker { child, line, _control: control, walls: Vec::new() };
        let limits = QueryLimits { memory_bytes: 256 << 20, ..QueryLimits::default() };
        let open = json!({"purpose": purpose, "limits": limits, "needs": []});
        worker.say(OPEN, open.to_string().as_bytes());
        let (tag, content) = worker.hear().unwrap();
        assert_eq!(tag, READY, "{}", String::from_utf8_lossy(&content));
        let ready: Value = serde_json::from_slice(&content).unwrap();
        let walls = ready["walls"].as_array().unwrap().iter();
        worker.walls = walls.map(|wall| wall.as_str().unwrap().to_string()).collect();
        worker
    }

    pub fn has(&self, wall: &str) -> bool {
        self.walls.iter().any(|stands| stands == wall)
    }

    pub fn say(&mut self, tag: u8, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap();
        let mut frame = length.to_le_bytes().to_vec();
        frame.push(tag);
        frame.extend_from_slice(content);
        // One that has ended is noticed by whoever hears it.
        let _ = self.line.write_all(&frame);
    }

    pub fn hear(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.line.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let mut content = vec![0; length as usize];
        self.line.read_exact(&mut content)?;
        Ok((head[4], content))
    }

    /// What a statement comes to that nobody has looked at: its rows as an Arrow stream, or what is
    /// wrong; nothing when it had to be ended, or has ended its worker.
    pub fn run(
        &mut self,
        number: u64,
        views: &Value,
        statement: &str,
    ) -> Option<Result<Vec<u8>, String>> {
        let run = json!({
            "number": number, "views": views, "place": "Shared", "statement": statement,
            "parameters": [],
            "batch_rows": 2048,
        });
        self.line.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        self.say(RUN, run.to_string().as_bytes());
        let mut rows = Vec::new();
        loop {
            let Ok((tag, content)) = self.hear() else { return None };
            match tag {
                // One that never ends is ended like one that says nothing.
                ROWS if rows.len() > ROWS_MAX => return None,
                COLUMNS | ROWS => rows.extend_from_slice(&content),
                MAY => self.say(YES, &[]),
                DONE => {
                    rows.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
                    return Some(Ok(rows));
                }
                FAILED => return Some(Err(String::from_utf8_lossy(&content).into_owned())),
                tag => panic!("a frame {tag}"),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
