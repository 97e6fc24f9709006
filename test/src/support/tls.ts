/**
 * A private certificate authority and a server certificate, made without any tool: a machine that runs the tests need
 * not have openssl. X.509 v3, ECDSA on P-256. https://datatracker.ietf.org/doc/html/rfc5280
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'

const DAY_MS = 86_400_000
const OID_ECDSA_WITH_SHA256 = '06082a8648ce3d040302'
const OID_COMMON_NAME = '0603550403'
const OID_BASIC_CONSTRAINTS = '0603551d13'
const OID_SUBJECT_ALT_NAME = '0603551d11'
const TRUE = tlv(0x01, Buffer.from([0xff]))
/** [7] iPAddress 127.0.0.1 and [2] dNSName localhost. */
const LOOPBACK = Buffer.concat([tlv(0x87, Buffer.from([127, 0, 0, 1])), tlv(0x82, Buffer.from('localhost'))])

export interface Certificate {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

export interface CertificateChain {
  /** The authority's certificate. */
  readonly caPem: string
  /** For a server on 127.0.0.1. */
  readonly server: Certificate
}

export function makeCertificates(): CertificateChain {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = 'a private authority'
  const caPem = certificate(issuer, authority.publicKey, issuer, authority.privateKey, [
    extension(OID_BASIC_CONSTRAINTS, sequence(TRUE), true),
  ])
  const certificatePem = certificate('localhost', server.publicKey, issuer, authority.privateKey, [
    extension(OID_SUBJECT_ALT_NAME, sequence(LOOPBACK), false),
  ])
  const privateKeyPem = server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  return { caPem, server: { certificatePem, privateKeyPem } }
}

function certificate(
  subject: string,
  key: KeyObject,
  issuer: string,
  issuerKey: KeyObject,
  extensions: readonly Buffer[],
): string {
  const algorithm = sequence(Buffer.from(OID_ECDSA_WITH_SHA256, 'hex'))
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(8)])
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    algorithm,
    name(issuer),
    sequence(time(Date.now() - DAY_MS), time(Date.now() + DAY_MS)),
    name(subject),
    key.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensions)),
  )
  const signature = sign('sha256', body, { key: issuerKey, dsaEncoding: 'der' })
  const der = sequence(body, algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}

function name(commonName: string): Buffer {
  const text = tlv(0x0c, Buffer.from(commonName))
  return sequence(tlv(0x31, sequence(Buffer.from(OID_COMMON_NAME, 'hex'), text)))
}

function time(atMs: number): Buffer {
  const digits = new Date(atMs).toISOString().replace(/[^0-9]/g, '')
  return tlv(0x17, Buffer.from(`${digits.slice(2, 14)}Z`))
}

function extension(oid: string, value: Buffer, isCritical: boolean): Buffer {
  const parts = [Buffer.from(oid, 'hex'), ...(isCritical ? [TRUE] : []), tlv(0x04, value)]
  return sequence(...parts)
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(parts))
}

/** Tag, length and value, in DER. */
function tlv(tag: number, value: Buffer): Buffer {
  const length = value.length < 0x80 ? [value.length] : longLength(value.length)
  return Buffer.concat([Buffer.from([tag, ...length]), value])
}

function longLength(length: number): number[] {
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return [0x80 + bytes.length, ...bytes]
}
