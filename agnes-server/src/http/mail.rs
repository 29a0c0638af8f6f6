//! Mail: short letters with a link.

use std::time::Duration;

use agnes_core::access::Email;
use agnes_core::{Error, Kind, Result};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::settings::{MailSecurity, MailSettings};

/// How long the mail server may take for each of its answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends letters through one mail server.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// A letter in plain text.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) to: Email,
    pub(crate) subject: String,
    pub(crate) text: String,
}

fn address(text: &str) -> Result<Address> {
    let shown = || format!("`{}` is no address that mail can have", text.escape_debug());
    text.parse().map_err(|_| Error::new(Kind::Invalid, shown()))
}

impl Mailer {
    /// Nothing is said to the mail server yet.
    ///
    /// # Errors
    /// `Invalid` for settings that can't be meant.
    pub(crate) fn new(settings: &MailSettings) -> Result<Mailer> {
        let MailSettings { host, port, security, credentials, from, from_name } = settings;
        let invalid =
            |e: lettre::transport::smtp::Error| Error::new(Kind::Invalid, format!("mail: {e}"));
        let (tls, usual) = match security {
            MailSecurity::None => (Tls::None, 25),
            MailSecurity::StartTls => {
                (Tls::Required(TlsParameters::new(host.clone()).map_err(invalid)?), 587)
            }
            MailSecurity::Tls => {
                (Tls::Wrapper(TlsParameters::new(host.clone()).map_err(invalid)?), 465)
            }
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
            .port(port.unwrap_or(usual))
            .tls(tls)
            .timeout(Some(PATIENCE));
        let transport = match credentials {
            // Whoever listens on the way would have them.
            Some(_) if *security == MailSecurity::None => {
                return Err(Error::new(
                    Kind::Invalid,
                    "a mail server's password isn't sent over a connection without TLS: take \
                     `starttls` or `tls`, or no user",
                ));
            }
            Some((user, password)) => {
                transport.credentials(Credentials::new(user.clone(), password.expose().to_string()))
            }
            None => transport,
        };
        let from = Mailbox::new(from_name.clone(), address(from)?);
        Ok(Mailer { transport: transport.build(), from })
    }

    /// Gives a letter to the mail server.
    ///
    /// # Errors
    /// `Invalid` for an address that mail can't have; `Unavailable` when it isn't taken.
    pub(crate) async fn send(&self, letter: Letter) -> Result<()> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address(letter.to.as_str())?))
            .subject(letter.subject)
            .message_id(None)
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text)
            .map_err(|e| Error::new(Kind::Internal, format!("a letter can't be written: {e}")))?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(|e| {
            Error::new(Kind::Unavailable, format!("the mail server doesn't take a letter: {e}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use agnes_core::Secret;

    use super::*;

    fn settings() -> MailSettings {
        MailSettings {
            host: "mail.example.com".into(),
            port: None,
            security: MailSecurity::StartTls,
            credentials: Some(("agnes".into(), Secret::new("hunter2"))),
            from: "agnes@example.com".into(),
            from_name: Some("Agnes".into()),
        }
    }

    #[test]
    fn what_can_t_be_meant_is_told_at_the_start() {
        assert!(Mailer::new(&settings()).is_ok());
        assert!(Mailer::new(&MailSettings { security: MailSecurity::Tls, ..settings() }).is_ok());
        for wrong in [
            MailSettings { security: MailSecurity::None, ..settings() },
            MailSettings { from: "nobody".into(), ..settings() },
            MailSettings { from: "a@example.com\r\nBcc: eve@example.com".into(), ..settings() },
        ] {
            let error = Mailer::new(&wrong).map(drop).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{wrong:?}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
