// openapi.json as a page: paths, what they take, what they answer, and the types that these are made of.

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.append(...(text ? [text] : []), ...children);
  return made;
}

function type(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.type === "array") return `list of ${type(schema.items)}`;
  if (schema.properties) {
    return `{${Object.entries(schema.properties).map(([name, each]) => `${name}: ${type(each)}`).join(", ")}}`;
  }
  if (schema.additionalProperties) return `names with ${type(schema.additionalProperties)}`;
  return schema.format === "binary" ? "file" : schema.const ?? schema.type ?? "anything";
}

function rows(pairs) {
  const table = element("table");
  for (const [name, ...cells] of pairs) {
    table.append(element("tr", "", element("td", "", element("code", name)), ...cells.map(text => element("td", text))));
  }
  return table;
}

function bodies(content) {
  return Object.entries(content ?? {}).map(([kind, each]) => [kind, type(each.schema)]);
}

const address = new URL(".", location.href).href; // ends with /
const EXAMPLES = {
  "/predict": [
    `curl -F files=@seven.png -F files=@postcode.jpg ${address}predict`,
    `curl -H 'content-type: image/png' --data-binary @seven.png '${address}predict?explain=true'`,
  ],
};
const api = await (await fetch("openapi.json")).json();
const schemas = { ...api.components?.schemas };
const place = document.getElementById("paths");
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const section = element("section", "", element("h2", "", element("code", `${method.toUpperCase()} ${path}`)),
      element("p", about.description ?? about.summary));
    if (about.parameters) {
      const pairs = about.parameters.map(each => [each.name, type(each.schema), each.description ?? ""]);
      section.append(element("h3", "Query"), rows(pairs));
    }
    if (about.requestBody) section.append(element("h3", "Body"), rows(bodies(about.requestBody.content)));
    const answers = Object.entries(about.responses).filter(([status]) => status !== "422")
      .map(([status, each]) => [status, type(Object.values(each.content ?? {})[0]?.schema), each.description]);
    section.append(element("h3", "Answers"), rows(answers));
    if (EXAMPLES[path]) section.append(element("h3", "Such as"), element("pre", EXAMPLES[path].join("\n")));
    place.append(section);
  }
}
for (const [name, schema] of Object.entries(schemas).filter(([name]) => !/Validation/.test(name))) {
  const pairs = Object.entries(schema.properties ?? {}).map(([field, each]) => [field, type(each)]);
  place.append(element("section", "", element("h2", "", element("code", name)), element("p", schema.description ?? ""), rows(pairs)));
}
document.body.dataset.state = "shown";
