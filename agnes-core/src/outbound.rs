//! Addresses that somebody types in and the server is to call: only public ones, and the one that
//! was checked.
//!
//! Whoever may type an address could have the server call its own network: a metadata service, a
//! database, itself. [`Target::parse`] refuses what looks like it, [`Target::pin`] what resolves to
//! it. The name could resolve to something else a moment later, so that the addresses which were
//! checked are given back: connect to one of those, with the host for TLS and the `Host` header,
//! and follow no redirects.
//!
//! ```
//! use std::net::IpAddr;
//! use agnes_core::outbound::Target;
//!
//! let target = Target::parse("https://connection.keboola.com/v2/storage")?;
//! let resolve = |_: &str| Ok(vec![IpAddr::from([93, 184, 216, 34])]);
//! assert_eq!(target.pin(&resolve)?.addresses[0].to_string(), "93.184.216.34:443");
//! let inside = |_: &str| Ok(vec![IpAddr::from([10, 0, 0, 5])]);
//! assert!(target.pin(&inside).is_err());
//! assert!(Target::parse("http://connection.keboola.com").is_err());
//! # Ok::<(), agnes_core::Error>(())
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use url::{Host, Url};

use crate::{Error, Kind, Result};

/// An address of HTTPS without anything that hides where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Url);

/// A checked address with the sockets that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The address, as it was understood.
    pub url: String,
    /// Its host, for TLS and the `Host` header.
    pub host: String,
    /// Where to connect: to these and no others.
    pub addresses: Vec<SocketAddr>,
}

/// Finds the addresses of a name. Any function `Fn(&str) -> io::Result<Vec<IpAddr>>` does.
pub trait Resolver: Send + Sync {
    /// Every address of a host.
    ///
    /// # Errors
    /// Whatever keeps it from being found.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

impl<F: Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync> Resolver for F {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self(host)
    }
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 443).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, format!("the address can't be used: {what}"))
}

impl Target {
    /// Takes an address apart, as clients of HTTP do. Nothing is looked up.
    ///
    /// # Errors
    /// `Invalid` for anything but `https://host[:port]/…`, for a user or password in it, and for
    /// a host that is local by its name or its number.
    pub fn parse(address: &str) -> Result<Target> {
        // Parsers leave these out, each its own.
        if address.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(refused("it has blanks, backslashes or control characters"));
        }
        let url = Url::parse(address).map_err(refused)?;
        if url.scheme() != "https" {
            return Err(refused("it doesn't begin with `https://`"));
        }
        if !url.username().is_empty() || url.password().is_some() || address.contains('@') {
            return Err(refused("it has a user, a password or an `@`"));
        }
        if url.port() == Some(0) {
            return Err(refused("it has the port 0"));
        }
        match url.host() {
            None => return Err(refused("it has no host")),
            Some(Host::Ipv4(ip)) => check(IpAddr::V4(ip))?,
            Some(Host::Ipv6(ip)) => check(IpAddr::V6(ip))?,
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let local = ["localhost", "localhost.localdomain"].contains(&name.as_str())
                    || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end));
                // Whoever searches a list of domains finds it inside.
                if name.is_empty() || local || !name.contains('.') {
                    return Err(refused("its host is a local one"));
                }
            }
        }
        Ok(Target(url))
    }

    /// Looks up where it leads, and checks all of it.
    ///
    /// # Errors
    /// `Invalid` when the host can't be found, and when any of its addresses isn't public.
    pub fn pin(&self, resolver: &dyn Resolver) -> Result<Pinned> {
        let port = self.0.port_or_known_default().unwrap_or(443);
        let addresses = match self.0.host() {
            Some(Host::Ipv4(ip)) => vec![IpAddr::V4(ip)],
            Some(Host::Ipv6(ip)) => vec![IpAddr::V6(ip)],
            Some(Host::Domain(name)) => resolver.resolve(name).map_err(|e| {
                refused(format_args!("its host `{}` can't be found: {e}", crate::name::shown(name)))
            })?,
            None => Vec::new(),
        };
        if addresses.is_empty() {
            return Err(refused("its host has no address"));
        }
        addresses.iter().try_for_each(|address| check(*address))?;
        Ok(Pinned {
            url: self.0.to_string(),
            host: self.0.host_str().unwrap_or_default().to_string(),
            addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        })
    }
}

fn check(ip: IpAddr) -> Result<()> {
    let public = match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    };
    match public {
        true => Ok(()),
        false => Err(refused("it leads to an address that isn't public")),
    }
}

/// By the IANA registry of special-purpose addresses.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..)
    )
}

/// Global unicast alone, without what is set aside in it and what carries another address inside.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let global = (0x2000..=0x3fff).contains(&a);
    // IETF protocols and Teredo, 6to4, documentation.
    let special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        || a == 0x2002
        || (a == 0x2620 && b == 0x004f)
        || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(addresses: &[&str]) -> impl Resolver {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        move |_: &str| Ok(addresses.clone())
    }

    #[test]
    fn what_is_no_public_address_of_https() {
        for bad in [
            "",
            "https://",
            "https:///x",
            "http://a.example",
            "ftp://a.example",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//a.example",
            "a.example",
            "https:a.example@b.example",
            "https://user@a.example",
            "https://user:pw@a.example",
            "https://:pw@a.example",
            "https://a.example@127.0.0.1/",
            "https://a.example/@x",
            "https://localhost",
            "https://LOCALHOST:8443",
            "https://localhost.",
            "https://localhost.localdomain",
            "https://a.localhost",
            "https://printer.local",
            "https://metadata.google.internal",
            "https://intranet",
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://0",
            "https://0.0.0.0",
            "https://10.1.2.3",
            "https://172.16.0.1",
            "https://172.31.255.255",
            "https://192.168.1.1",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1",
            "https://100.127.255.255",
            "https://192.0.0.1",
            "https://192.0.2.1",
            "https://198.18.0.1",
            "https://198.19.255.255",
            "https://198.51.100.7",
            "https://203.0.113.9",
            "https://224.0.0.1",
            "https://240.0.0.1",
            "https://255.255.255.255",
            "https://192.88.99.1",
            "https://[::]",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:8.8.8.8]",
            "https://[::127.0.0.1]",
            "https://[64:ff9b::7f00:1]",
            "https://[64:ff9b::808:808]",
            "https://[64:ff9b:1::1]",
            "https://[2002:7f00:1::]",
            "https://[2001::1]",
            "https://[2001:db8::1]",
            "https://[fe80::1]",
            "https://[fe80::1%25eth0]",
            "https://[fc00::1]",
            "https://[fd12:3456::1]",
            "https://[fec0::1]",
            "https://[ff02::1]",
            "https://[100::1]",
            "https://[3fff::1]",
            "https://[5f00::1]",
            "https://１２７.0.0.1",
            "https://①②⑦.0.0.1",
            "https://localhoſt",
            "https://%6cocalhost",
            "https://127.0.0.1%2f.example",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://a .example",
            "https://a.example\n",
            "\thttps://a.example",
            "https://a.example\\@127.0.0.1",
            "https:\\\\127.0.0.1",
            "https://exa\u{0}mple.com",
        ] {
            let error = Target::parse(bad).map(|target| target.pin(&to(&["8.8.8.8"])));
            assert!(error.is_err(), "{bad:?}: {error:?}");
            assert_eq!(error.unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
        // The ends of the ranges.
        for good in [
            "https://172.15.255.255",
            "https://172.32.0.1",
            "https://100.63.255.255",
            "https://100.128.0.1",
            "https://169.253.1.1",
            "https://198.17.255.255",
            "https://198.20.0.1",
            "https://223.255.255.255",
            "https://11.0.0.1",
            "https://[2606:4700::1111]",
            "https://[2001:200::1]",
            "https://[2003::1]",
            "https://8.8.8.8:8443/x?y=z#f",
            "https://a.example/%40x",
            "HTTPS://A.Example",
        ] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn every_address_of_a_host_has_to_be_public() {
        let target = Target::parse("https://a.example:8443/x").unwrap();
        let pinned = target.pin(&to(&["8.8.8.8", "2606:4700::1111"])).unwrap();
        assert_eq!(
            (pinned.host.as_str(), pinned.url.as_str()),
            ("a.example", "https://a.example:8443/x")
        );
        let sockets: Vec<String> = pinned.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(sockets, ["8.8.8.8:8443", "[2606:4700::1111]:8443"]);
        for inside in [
            &["8.8.8.8", "10.0.0.1"][..],
            &["::1"],
            &["fe80::1", "8.8.8.8"],
            &["::ffff:10.0.0.1"],
            &[],
        ] {
            assert!(target.pin(&to(inside)).is_err(), "{inside:?}");
        }
        let nowhere = |_: &str| Err(io::Error::other("no such host"));
        let error = target.pin(&nowhere).unwrap_err();
        assert!(error.message().contains("`a.example` can't be found"), "{error}");
        // What is looked up is the name that a client would look up.
        let asked = std::sync::Mutex::new(String::new());
        let note = |host: &str| {
            *asked.lock().unwrap() = host.to_string();
            Ok(vec![IpAddr::from([8, 8, 8, 8])])
        };
        Target::parse("https://BÜCHER.example").unwrap().pin(&note).unwrap();
        assert_eq!(*asked.lock().unwrap(), "xn--bcher-kva.example");
    }
}
