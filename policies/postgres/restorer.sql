-- The server at db.acme.example (devnet-1: validator, devnet-1: participant, mainnet-1: validator, mainnet-1: participant, testnet-1: validator, testnet-1: participant).
-- By a superuser: psql -X -v ON_ERROR_STOP=1 -f THIS_FILE postgres

-- The user that the node's apps log in as, who owns the restored databases: -v owner=NAME, else cnadmin.
\if :{?owner}
\else
\set owner cnadmin
\endif

-- Restores: for people, for an hour. Drop it afterwards.
select format('create role %I', 'idkeep_restore') where not exists (select from pg_roles where rolname = 'idkeep_restore') \gexec
-- Makes the empty databases that a set is restored into.
alter role idkeep_restore login createdb nosuperuser nocreaterole noreplication nobypassrls;
-- Its password: psql asks for it and sends only its SCRAM form.
--   \password idkeep_restore
-- Makes them the owner's, and restores as the owner.
grant :"owner" to idkeep_restore;

-- Then, as idkeep_restore, for each database of one set, into an empty one, while the node stands still:
--   devnet-1: createdb -O OWNER 'validator'
--     age -d -i KEYFILE validator.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'validator'
--   devnet-1: createdb -O OWNER 'participant'
--     age -d -i KEYFILE participant.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'participant'
--   mainnet-1: createdb -O OWNER 'validator'
--     age -d -i KEYFILE validator.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'validator'
--   mainnet-1: createdb -O OWNER 'participant'
--     age -d -i KEYFILE participant.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'participant'
--   testnet-1: createdb -O OWNER 'validator'
--     age -d -i KEYFILE validator.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'validator'
--   testnet-1: createdb -O OWNER 'participant'
--     age -d -i KEYFILE participant.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d 'participant'
