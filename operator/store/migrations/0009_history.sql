-- What Skills did before, for estimates: the last attempts with each.

create index attempts_of_skill on attempts ((launch ->> 'skill'), finished_at) where outcome = 'Succeeded';
