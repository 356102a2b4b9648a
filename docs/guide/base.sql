create table users (id integer primary key, name text, org text);
insert into users values (1, 'ann', '7'), (2, 'bob', '7');
create table docs (id text primary key, doc text not null, version integer not null default 0);
