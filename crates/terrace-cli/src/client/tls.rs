//! TLS to a service: whose certificate is believed, which one is shown, and what to do if that does not do.

use crate::args::TlsArgs;
use crate::failure::Failure;
use reqwest::{Certificate, ClientBuilder, Identity};
use rustls::Error;
use std::io;
use std::path::Path;

/// What to do where a service may want to know its clients.
const SHOW: &str = "if it has a `client_ca_file`, show it a certificate that one of those signed with --cert FILE or TERRACE_CERT";

/// A client that believes these roots, and shows this certificate.
pub(super) fn known(mut client: ClientBuilder, args: &TlsArgs) -> anyhow::Result<ClientBuilder> {
    if let Some(file) = &args.cacert {
        let roots = Certificate::from_pem_bundle(&read(file)?).ok().filter(|roots| !roots.is_empty());
        client = client.tls_certs_only(roots.ok_or_else(|| no_pem(file, "a certificate"))?);
    }
    match (&args.cert, &args.cert_key) {
        (None, None) => {}
        (None, Some(_)) => {
            return Err(Failure::usage("a key alone shows nothing").next("add --cert FILE").into());
        }
        (Some(file), key) => {
            let mut pem = read(file)?;
            if let Some(key) = key {
                pem.push(b'\n');
                pem.extend(read(key)?);
            }
            let what = "a certificate and its key";
            client = client.identity(Identity::from_pem(&pem).map_err(|_| no_pem(file, what))?);
        }
    }
    Ok(client)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::unreadable(file, &error))
}

fn no_pem(file: &Path, what: &str) -> Failure {
    let next = "give a file in PEM; a key may be in one of its own: --cert-key FILE";
    Failure::usage(format!("{} does not have {what}", file.display())).next(next)
}

/// What to do about an error, if it is one of TLS. A service that wants a certificate may end the connection without a word that arrives.
pub(super) fn next(error: &reqwest::Error, is_nameless: bool) -> Option<&'static str> {
    let Some(found) = found(error) else {
        let is_ended = is_nameless && !error.is_connect() && !error.is_timeout();
        return is_ended.then_some(SHOW);
    };
    Some(match found {
        Error::InvalidCertificate(_) | Error::General(_) => {
            "say which root signed its certificate with --cacert FILE or TERRACE_CACERT, and use the name that is in it in --url"
        }
        Error::AlertReceived(_) => SHOW,
        Error::InvalidMessage(_) => "what listens there speaks no TLS: write http:// in --url or TERRACE_URL",
        _ => "see that both speak TLS 1.2 or 1.3, and what the log of the service says",
    })
}

/// The error of TLS among the sources of another. One that is within an error of the system is none of its sources.
fn found<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let deeper = match within {
        Some(within) => Some(within as &(dyn std::error::Error + 'static)),
        None => error.source(),
    };
    error.downcast_ref::<Error>().or_else(|| found(deeper?))
}
