-- Which word on a student's day is the newest, for those who hear of it in any order (the live table): when Postgres
-- wrote it, in microseconds since 1970, and always more than before. Days written before this column are 0, and are not
-- in the table: `skillcore tables rebuild` puts them there.
alter table attendance_day add column written bigint not null default 0;
