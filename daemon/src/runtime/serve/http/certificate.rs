//! A self-signed certificate (RFC 5280) for clients that don't verify it. It protects against
//! eavesdroppers only; a certificate of the cluster's own authority is given as a folder.

use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` of TBSCertificate: the version.
const VERSION: u8 = 0xa0;
/// `[3]` of TBSCertificate: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` of GeneralName: a DNS name.
const DNS_NAME: u8 = 0x82;

/// 1.2.840.10045.4.3.2
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The subject, and the only DNS name.
const NAME: &[u8] = b"ferrolb";

/// A certificate with a new key. It has no expiration date (RFC 5280 §4.1.2.5), since the process
/// may run for years.
///
/// # Errors
///
/// The system has no randomness.
pub(super) fn self_signed()
-> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unspecified> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random)?;
    let mut serial = [0; 16];
    random.fill(&mut serial)?;
    // Positive, and without leading zeros.
    serial[0] = serial[0] & 0x7f | 0x40;

    let unsigned = unsigned(&serial, pair.public_key().as_ref());
    let signature = pair.sign(&random, &unsigned)?;
    let certificate = der(
        SEQUENCE,
        &[&unsigned, &signature_algorithm(), &bits(signature.as_ref())],
    );
    let key = PrivatePkcs8KeyDer::from(key.as_ref().to_vec());
    Ok((vec![certificate.into()], key.into()))
}

/// A TBSCertificate (RFC 5280 §4.1.2).
fn unsigned(serial: &[u8], public_key: &[u8]) -> Vec<u8> {
    let id = |oid: &[u8]| der(OBJECT_IDENTIFIER, &[oid]);
    let common_name = der(SEQUENCE, &[&id(COMMON_NAME), &der(UTF8_STRING, &[NAME])]);
    let name = der(SEQUENCE, &[&der(SET, &[&common_name])]);
    let validity = der(
        SEQUENCE,
        &[
            &der(UTC_TIME, &[b"700101000000Z"]),
            &der(GENERALIZED_TIME, &[b"99991231235959Z"]),
        ],
    );
    let key_algorithm = der(SEQUENCE, &[&id(EC_PUBLIC_KEY), &id(PRIME256V1)]);
    let key_info = der(SEQUENCE, &[&key_algorithm, &bits(public_key)]);
    let names = der(SEQUENCE, &[&der(DNS_NAME, &[NAME])]);
    let names = der(
        SEQUENCE,
        &[&id(SUBJECT_ALT_NAME), &der(OCTET_STRING, &[&names])],
    );
    der(
        SEQUENCE,
        &[
            // 2 means v3.
            &der(VERSION, &[&der(INTEGER, &[&[2]])]),
            &der(INTEGER, &[serial]),
            &signature_algorithm(),
            &name,
            &validity,
            &name,
            &key_info,
            &der(EXTENSIONS, &[&der(SEQUENCE, &[&names])]),
        ],
    )
}

fn signature_algorithm() -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[ECDSA_WITH_SHA256])])
}

/// A bit string of whole octets.
fn bits(octets: &[u8]) -> Vec<u8> {
    der(BIT_STRING, &[&[0], octets])
}

/// A DER value of these parts (X.690 §8.1, with a definite length).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let octets = length.to_be_bytes();
    let octets = octets.into_iter().skip_while(|octet| *octet == 0);
    let mut value = vec![tag];
    if length >= 0x80 {
        value.push(0x80 | octets.clone().fold(0, |count, _| count + 1));
        value.extend(octets);
    } else {
        value.extend(length.to_be_bytes().last());
    }
    value.extend(parts.iter().flat_map(|part| part.iter()));
    value
}
