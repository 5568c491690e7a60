// The certified `oidc-provider` as a token issuer for client credentials.
//
//   node issuer.mjs SETTINGS     SETTINGS is a JSON object, see below; `oidc-provider` is found in IDKEEP_NODE_MODULES
//
// Prints one line, {"issuer": "http://127.0.0.1:PORT"}, when it accepts requests, and ends when its stdin ends.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(path.join(process.env.IDKEEP_NODE_MODULES, 'issuer.mjs'));
const { Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

// {clients: […], resources: {URI: {scope}}, jwks: private key set, lifetime: seconds,
//  tls: {cert_file, key_file, ca_file} or nothing}
const settings = JSON.parse(process.argv[2]);

// The issuer's name has its port in it, so the port comes first and the provider second.
let handle = (request, response) => response.writeHead(503).end();
const listener = (request, response) => handle(request, response);
const { tls } = settings;
const server = tls
  ? https.createServer({
      cert: readFileSync(tls.cert_file),
      key: readFileSync(tls.key_file),
      // A client certificate is asked for but not demanded: `tls_client_auth` judges it later.
      ca: readFileSync(tls.ca_file),
      requestCert: true,
      rejectUnauthorized: false,
    }, listener)
  : http.createServer(listener);
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;

const clients = settings.clients.map((client) => ({
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...client,
}));

const resource = (ctx, indicator) => {
  const known = settings.resources[indicator];
  if (!known) throw new errors.InvalidTarget();
  return {
    scope: known.scope ?? '',
    audience: indicator,
    accessTokenFormat: 'jwt',
    accessTokenTTL: settings.lifetime,
    jwt: { sign: { alg: 'RS256' } },
  };
};

const provider = new Provider(issuer, {
  clients,
  jwks: settings.jwks,
  cookies: { keys: ['not used: no browser comes here'] },
  scopes: Object.values(settings.resources).flatMap(({ scope }) => (scope ? scope.split(' ') : [])),
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', ...(tls ? ['tls_client_auth'] : [])],
  enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256'] },
  ttl: { ClientCredentials: settings.lifetime },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // Without `resource` there is no audience, and so no JWT.
      defaultResource: () => undefined,
      getResourceServerInfo: resource,
    },
    ...(tls && {
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === 'tls_client_auth_subject_dn' && ctx.socket.getPeerX509Certificate()?.subject === expected,
      },
    }),
  },
});
provider.on('server_error', (ctx, error) => console.error(error));
handle = provider.callback();

console.log(JSON.stringify({ issuer }));
process.stdin.on('end', () => process.exit()).resume();
