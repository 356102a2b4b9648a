-- Something to load, and somewhere to write to.
create table users (id bigint primary key, name text not null, email text not null);
insert into users select id, 'user ' || id, 'user' || id || '@example.com' from generate_series(1, 10000) as id;
create table visits (page text primary key, doc jsonb not null, version bigint not null);
create table carts (id text primary key, doc jsonb not null);
create table orders (id text primary key, doc jsonb not null);
