-- The code of a ticket's barcode opens the door and is no longer kept; what became of the ticket is. (How the field came in a
-- record that was rejected is in its raw payload, as the vendor showed it.)
create function pg_temp.without_codes(barcodes jsonb) returns jsonb language sql as $$
  select coalesce(jsonb_agg(case when jsonb_typeof(item) = 'object' then item - 'barcode' else item end order by place), '[]')
  from jsonb_array_elements(barcodes) with ordinality as listed(item, place)
$$;
update registrations.registration
set metadata = metadata || jsonb_build_object('barcodes', pg_temp.without_codes(metadata -> 'barcodes'))
where contract_version like 'eventbrite-%' and jsonb_typeof(metadata -> 'barcodes') = 'array';
update sync.held
set row_data = jsonb_set(row_data, '{metadata,barcodes}', pg_temp.without_codes(row_data #> '{metadata,barcodes}'))
where contract_version like 'eventbrite-%' and jsonb_typeof(row_data #> '{metadata,barcodes}') = 'array';
