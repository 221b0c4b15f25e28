CREATE TABLE t (id int NOT NULL, day date NOT NULL, qty numeric(8,0) NOT NULL);
