-- The server at db.acme.example (devnet-1: validator, devnet-1: participant, mainnet-1: validator, mainnet-1: participant, testnet-1: validator, testnet-1: participant).
-- By a superuser: psql -X -v ON_ERROR_STOP=1 -f THIS_FILE postgres

-- Takes backups. It owns nothing, makes nothing, and is no superuser.
select format('create role %I', 'idkeep_backup') where not exists (select from pg_roles where rolname = 'idkeep_backup') \gexec
alter role idkeep_backup login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

-- Reads every table, with the participant's private keys among them, and writes none. Its password is worth as much
-- as they are. (The dump needs no more: the server's identity and its position in the log are everybody's to ask.)
grant pg_read_all_data to idkeep_backup;

-- Should it ever be granted more, its transactions still begin as read-only ones.
alter role idkeep_backup set default_transaction_read_only = on;

-- Its password: psql asks for it and sends only its SCRAM form. The same goes into the file that `password` names.
--   \password idkeep_backup
-- In pg_hba.conf, above wider rules: from idkeep's machine alone, and never without TLS.
--   hostssl all idkeep_backup ADDRESS/32 scram-sha-256

-- Connects to what it dumps, also where not everybody may: devnet-1, validator.
grant connect on database validator to idkeep_backup;

-- Connects to what it dumps, also where not everybody may: devnet-1, participant.
grant connect on database participant to idkeep_backup;

-- Connects to what it dumps, also where not everybody may: mainnet-1, validator.
grant connect on database validator to idkeep_backup;

-- Connects to what it dumps, also where not everybody may: mainnet-1, participant.
grant connect on database participant to idkeep_backup;

-- Connects to what it dumps, also where not everybody may: testnet-1, validator.
grant connect on database validator to idkeep_backup;

-- Connects to what it dumps, also where not everybody may: testnet-1, participant.
grant connect on database participant to idkeep_backup;
