-- Which generation of a token a call was made with (null: a key that does not change by itself, or none).
alter table sync.audit add column token_generation integer;
